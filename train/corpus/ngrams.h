// Which of a prompt's word n-grams other prompts hold: how much of it a model may have seen.
#pragma once
#include <cstdint>
#include <string_view>
#include <unordered_set>
#include <vector>

namespace unfurl::train {

/// The word n-grams of a set of texts. Words are lower-case and without punctuation; a text of fewer than n words is
/// one gram of all its words.
class SeenNgrams {
 public:
  explicit SeenNgrams(int n) : n_(n) {}

  void add(std::string_view text);

  /// The share of the text's n-grams that are among those added, in [0, 1]; 0 for a text without words.
  double share(std::string_view text) const;

 private:
  std::vector<std::uint64_t> grams(std::string_view text) const;
  int n_;
  std::unordered_set<std::uint64_t> seen_;  // their hashes
};

}  // namespace unfurl::train
