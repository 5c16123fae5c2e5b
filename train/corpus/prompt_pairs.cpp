#include "train/corpus/prompt_pairs.h"

#include <algorithm>
#include <utility>

#include "core/error.h"
#include "train/corpus/text.h"
#include "train/corpus/words.h"

namespace unfurl::train {
namespace {

struct Query {
  std::string type, text, prefix;
};

/// Two texts that differ in case, spacing and marks at the ends alone are the same query.
std::string comparable(std::string_view text) {
  std::string out = lower(join(split_words(text)));
  while (!out.empty() && std::string_view(" .,;:!?").find(out.back()) != std::string_view::npos) out.pop_back();
  return out;
}

std::string title_case(const std::vector<std::string_view>& words) {
  std::string out;
  for (const std::string_view word : words) {
    if (!out.empty()) out += ' ';
    out += word;
    char& first = out[out.size() - word.size()];
    if (first >= 'a' && first <= 'z') first = static_cast<char>(first - 'a' + 'A');
  }
  return out;
}

std::string with_flavors(const Parts& parts, std::size_t count) {
  std::string text = join(parts.content, ", ");
  for (std::size_t i = 0; i < count; ++i) text += ", " + std::string(parts.flavors[i]);
  return text;
}

/// The queries in the order of preference.
std::vector<Query> queries_of(const Parts& parts, const PromptStatistics& statistics, Draw& draw) {
  std::vector<Query> first, rest;
  const std::string flavor_prefix = parts.only_flavors && !parts.flavors.empty() ? "FLV" : "";
  first.push_back({"concrete", with_flavors(parts, 0), flavor_prefix});
  const std::size_t flavors = parts.flavors.size();
  if (flavors >= 2)
    rest.push_back(
        {"medium", with_flavors(parts, draw.between(1, std::min<std::size_t>(2, flavors - 1))), flavor_prefix});
  if (flavors >= 6) rest.push_back({"long", with_flavors(parts, flavors / 2), flavor_prefix});

  std::vector<std::string_view> noun = noun_phrase(parts.subject);
  if (!noun.empty() && noun.size() <= 8) {
    const std::string_view head = noun.back();
    first.push_back({"short", join(noun), "DTL"});
    const bool common = statistics.is_common_noun(head);
    if (const std::string_view place = place_phrase(parts.subject); common && !place.empty()) {
      rest.push_back({"grounded", std::string(head) + ' ' + std::string(place), "GRD"});
    }
    if (const std::string_view kind = class_of_noun(head); !kind.empty()) {
      rest.push_back({"specificity", std::string(draw.pick(words("general", kind))), "SPCT"});
    }
    if (noun.size() >= 2 || split_words(parts.subject).size() >= 3)
      rest.push_back({"abstract", std::string(head), "ABST"});
    if (noun.size() > 3) noun.erase(noun.begin(), noun.end() - 3);
    rest.push_back({"title", (draw.chance(0.5) ? "The " : "") + title_case(noun), ""});
  }
  draw.shuffle(rest);
  std::move(rest.begin(), rest.end(), std::back_inserter(first));
  return first;
}

}  // namespace

PromptPairs pairs_of_prompt(std::string_view prompt, const PromptStatistics& statistics, std::size_t variants,
                            Draw& draw) {
  const Parts parts = split_prompt(prompt, statistics);
  return parts.content.empty() ? PromptPairs() : pairs_of_parts(prompt, parts, statistics, variants, draw);
}

PromptPairs pairs_of_parts(std::string_view prompt, const Parts& parts, const PromptStatistics& statistics,
                           std::size_t variants, Draw& draw) {
  require(!parts.content.empty(), "pairs_of_parts: a prompt needs content");
  PromptPairs made;
  const std::string content = join(parts.content, ", "), whole = comparable(prompt), id = content_id(content);
  const std::vector<std::string> words_of_content = content_words(content);
  std::vector<std::string> seen;
  for (Query& query : queries_of(parts, statistics, draw)) {
    if (made.pairs.size() == variants) break;
    std::string key = comparable(query.text);
    if (key.empty() || std::find(seen.begin(), seen.end(), key) != seen.end()) continue;
    if (key == whole) {
      ++made.whole_prompt;
      seen.push_back(std::move(key));
      continue;
    }
    seen.push_back(std::move(key));
    made.pairs.push_back({std::move(query.text),
                          std::string(prompt),
                          std::move(query.prefix),
                          id,
                          std::move(query.type),
                          words_of_content,
                          {parts.flavors.begin(), parts.flavors.end()}});
  }
  return made;
}

}  // namespace unfurl::train
