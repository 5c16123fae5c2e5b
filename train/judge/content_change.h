// What an expansion does to the content of its query, told by rules (segments.h), without any image.
#pragma once
#include <cstddef>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "train/corpus/segments.h"

namespace unfurl::train {

class ContentChange {
 public:
  struct Change {
    std::size_t added = 0;    // content words that the query does not have
    std::size_t lost = 0;     // content words of the query that the prompt does not have
    std::size_t flavors = 0;  // segments that are flavors and not in the query
    bool unchanged() const { return added == 0 && lost == 0; }
  };

  /// Flavors are told by pairs (query, prompt) whose query is all of the prompt's content (those of type "concrete"):
  /// what more often stands behind a query than in one. A segment that none of them has is told by `prompts`
  /// (PromptStatistics).
  ContentChange(const std::vector<std::string>& prompts, const std::vector<std::pair<std::string, std::string>>& told);

  /// Content words are counted in the first segment and in those that are no flavors; words that name a flavor by
  /// themselves ("photo") do not count.
  Change between(std::string_view query, std::string_view prompt) const;

 private:
  bool is_flavor(std::string_view segment) const;

  PromptStatistics statistics_;
  std::unordered_map<std::string, int> told_;  // in lower case; above 0: a flavor
};

}  // namespace unfurl::train
