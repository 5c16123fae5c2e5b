// Which word n-grams a collection of prompts holds: how new is a held-out prompt?
#pragma once
#include <cstdint>
#include <string_view>
#include <unordered_set>
#include <vector>

namespace unfurl::train {

class SeenNgrams {
 public:
  explicit SeenNgrams(std::size_t n = 6) : n_(n) {}

  /// Adds the prompt's n-grams: runs of n words between spaces, in lower case without punctuation at their ends. A
  /// prompt of fewer words is one gram; one without words has none.
  void add(std::string_view prompt);

  /// The share in [0, 1] of the prompt's n-grams (repeated ones count each time) that were added; 0 where it has none.
  double share(std::string_view prompt) const;

 private:
  std::vector<std::uint64_t> grams(std::string_view prompt) const;
  std::size_t n_;
  std::unordered_set<std::uint64_t> seen_;  // hashes
};

}  // namespace unfurl::train
