#include "train/corpus/prefix_rules.h"

#include <algorithm>
#include <unordered_set>

#include "train/corpus/text.h"

namespace unfurl::train {

bool adds_flavors_alone(const Pair& pair, const PromptStatistics& statistics) {
  const Parts parts = split_prompt(pair.prompt, statistics);
  std::vector<std::string> content = pair.content;
  std::size_t flavors = pair.flavors.size();
  if (content.empty()) {
    const bool more = !parts.only_flavors || std::any_of(parts.flavors.begin(), parts.flavors.end(), opens_clause);
    if (pair.flavors.empty() && more) return false;  // behind the content is more than flavors
    content = content_words(join(parts.content, ", "));
    if (pair.flavors.empty()) flavors = parts.flavors.size();
  }
  if (flavors == 0 || content.empty()) return false;
  const std::vector<std::string> said = content_words(pair.query);
  const std::unordered_set<std::string> query(said.begin(), said.end());
  const bool all = std::all_of(content.begin(), content.end(), [&](const auto& word) { return query.contains(word); });
  return all && content_words(pair.prompt).size() > said.size();
}

std::string prefix_by_rules(const Pair& pair, const PromptStatistics& statistics, std::optional<double> score,
                            std::optional<double> threshold) {
  if (pair.prefix == "RFT" || pair.prefix == "MSTP") return pair.prefix;
  if (pair.type == "copy") return "";
  if (score && threshold && *score >= *threshold) return "HAST";
  if (pair.type == "abstract") return "ABST";
  if (adds_flavors_alone(pair, statistics)) return "FLV";
  if (pair.type == "grounded") return "GRD";
  if (pair.type == "specificity") return "SPCT";
  const std::vector<std::string> said = content_words(pair.query), prompt = content_words(pair.prompt);
  const std::unordered_set<std::string> query(said.begin(), said.end());
  const bool adds = std::any_of(prompt.begin(), prompt.end(), [&](const auto& word) { return !query.contains(word); });
  return adds ? "DTL" : "";
}

}  // namespace unfurl::train
