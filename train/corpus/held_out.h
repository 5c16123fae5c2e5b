// Content words that the training part of a synthetic corpus never shows, to test whether a model keeps words it has
// not seen.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_set>

namespace unfurl::train {

/// A share of the words of the content lists (subjects, adjectives, actions, ...), chosen by hash of (seed, word).
/// Words that flavors or the grammar's own phrases use are never held out, and every list keeps at least one entry.
class HeldOutWords {
 public:
  HeldOutWords(double share, std::uint64_t seed);

  bool contains(std::string_view word) const { return words_.contains(std::string(word)); }
  /// True where one of the text's content words is held out.
  bool in(std::string_view text) const;
  std::size_t size() const { return words_.size(); }
  /// Content words that could be held out, the held-out ones included.
  std::size_t of() const { return of_; }

 private:
  std::unordered_set<std::string> words_;
  std::size_t of_ = 0;
};

}  // namespace unfurl::train
