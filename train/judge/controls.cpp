#include "train/judge/controls.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "core/files.h"
#include "train/corpus/draw.h"
#include "train/corpus/segments.h"
#include "train/corpus/text.h"

namespace unfurl::train {
namespace {

constexpr std::uint32_t kFlavors = 7002;

}  // namespace

FrequentFlavors::FrequentFlavors(const std::vector<std::string>& prompts, std::size_t most) {
  PromptStatistics statistics;
  for (const std::string& prompt : prompts) statistics.add(prompt);
  std::map<std::string, std::size_t> counts;
  for (const std::string& prompt : prompts) {
    for (const std::string_view flavor : split_prompt(prompt, statistics).flavors) {
      if (statistics.is_flavor(flavor)) ++counts[lower(flavor)];
    }
  }
  flavors_.assign(counts.begin(), counts.end());
  std::stable_sort(flavors_.begin(), flavors_.end(), [](const auto& a, const auto& b) { return a.second > b.second; });
  flavors_.resize(std::min(flavors_.size(), most));
}

std::string FrequentFlavors::prompt(std::string_view query, std::size_t count, std::uint64_t seed,
                                    std::uint64_t sample) const {
  Draw draw(hash_bytes(query, seed), kFlavors, sample);
  auto left = flavors_;
  std::string out(query);
  for (std::size_t i = 0; i < count && !left.empty(); ++i) {
    std::size_t total = 0;
    for (const auto& [flavor, times] : left) total += times;
    std::size_t place = draw.below(total), which = 0;
    while (place >= left[which].second) place -= left[which++].second;
    out += ", " + left[which].first;
    left.erase(left.begin() + static_cast<std::ptrdiff_t>(which));
  }
  return out;
}

NearestPrompts::NearestPrompts(std::vector<std::string> prompts) : prompts_(std::move(prompts)) {
  std::sort(prompts_.begin(), prompts_.end());
  prompts_.erase(std::unique(prompts_.begin(), prompts_.end()), prompts_.end());
  for (std::size_t i = 0; i < prompts_.size(); ++i) {
    for (const std::string& word : content_words(prompts_[i])) {
      with_word_[word].push_back(static_cast<std::uint32_t>(i));
    }
  }
  lengths_.assign(prompts_.size(), 0);
  for (const auto& [word, where] : with_word_) {
    const double rarity = std::log(1 + static_cast<double>(prompts_.size()) / static_cast<double>(where.size()));
    for (const std::uint32_t i : where) lengths_[i] += rarity * rarity;
  }
}

std::vector<std::string> NearestPrompts::find(std::string_view query, std::size_t count) const {
  std::map<std::uint32_t, double> shared;
  for (const std::string& word : content_words(query)) {
    const auto found = with_word_.find(word);
    if (found == with_word_.end()) continue;
    const double rarity =
        std::log(1 + static_cast<double>(prompts_.size()) / static_cast<double>(found->second.size()));
    for (const std::uint32_t i : found->second) shared[i] += rarity * rarity;
  }
  std::vector<std::pair<double, std::uint32_t>> ranked;
  for (const auto& [i, sum] : shared) ranked.emplace_back(-sum / std::sqrt(lengths_[i]), i);
  std::sort(ranked.begin(), ranked.end());
  std::vector<std::string> out;
  for (std::size_t i = 0; i < ranked.size() && i < count; ++i) out.push_back(prompts_[ranked[i].second]);
  // Nothing in common with any: the first ones will do.
  for (std::size_t i = 0; out.size() < count && i < prompts_.size(); ++i) {
    if (std::find(out.begin(), out.end(), prompts_[i]) == out.end()) out.push_back(prompts_[i]);
  }
  return out;
}

std::size_t added_segments(std::string_view query, std::string_view prompt) {
  const std::size_t all = split_segments(prompt).size();
  const std::size_t own = prompt.starts_with(query) ? split_segments(query).size() : 1;
  return all > own ? all - own : 0;
}

}  // namespace unfurl::train
