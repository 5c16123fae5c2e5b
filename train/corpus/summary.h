// The counts that the corpus commands print.
#pragma once
#include <map>
#include <string>

#include "train/corpus/pair.h"

namespace unfurl::train {

class PairCounts {
 public:
  void add(const Pair& pair) {
    ++total_;
    ++types_[pair.type];
    ++prefixes_[pair.prefix.empty() ? "none" : pair.prefix];
    if (!pair.source.empty()) ++sources_[pair.source];
  }
  std::size_t total() const { return total_; }
  std::size_t of_type(const std::string& type) const {
    const auto found = types_.find(type);
    return found == types_.end() ? 0 : found->second;
  }
  /// Two lines: "  types     abstract 12, concrete 34 (...)" and "  prefixes  ABST 12, ..."; where pairs have a
  /// source, a third: "  sources   generated 40 (...), natural 80 (...)".
  std::string text() const;

 private:
  std::size_t total_ = 0;
  std::map<std::string, std::size_t> types_, prefixes_, sources_;
};

}  // namespace unfurl::train
