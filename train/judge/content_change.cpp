#include "train/judge/content_change.h"

#include <algorithm>
#include <unordered_set>

#include "train/corpus/text.h"

namespace unfurl::train {
namespace {

std::unordered_set<std::string> segments_of(std::string_view text) {
  std::unordered_set<std::string> out;
  for (const std::string_view segment : split_segments(text)) out.insert(lower(segment));
  return out;
}

}  // namespace

ContentChange::ContentChange(const std::vector<std::string>& prompts,
                             const std::vector<std::pair<std::string, std::string>>& told) {
  for (const std::string& prompt : prompts) statistics_.add(prompt);
  for (const auto& [query, prompt] : told) {
    const std::unordered_set<std::string> content = segments_of(query);
    for (const std::string& segment : segments_of(prompt)) told_[segment] += content.contains(segment) ? -1 : 1;
  }
}

bool ContentChange::is_flavor(std::string_view segment) const {
  if (const auto found = told_.find(lower(segment)); found != told_.end()) return found->second > 0;
  return statistics_.is_flavor(segment) && !opens_clause(segment);
}

ContentChange::Change ContentChange::between(std::string_view query, std::string_view prompt) const {
  const std::vector<std::string> asked = content_words(query);
  Change out;
  out.lost = asked.size() - count_said(asked, prompt);
  std::unordered_set<std::string> known(asked.begin(), asked.end());
  std::unordered_set<std::string> said = segments_of(query);
  const std::vector<std::string_view> segments = split_segments(prompt);
  for (std::size_t i = 0; i < segments.size(); ++i) {
    if (i > 0 && is_flavor(segments[i])) {
      out.flavors += said.insert(lower(segments[i])).second ? 1 : 0;
      continue;
    }
    for (std::string& word : content_words(segments[i])) {
      if (!names_flavor(word) && known.insert(std::move(word)).second) ++out.added;
    }
  }
  return out;
}

}  // namespace unfurl::train
