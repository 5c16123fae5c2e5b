// What a model has to beat: prompts made without one, from the prompts that it was trained on.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace unfurl::train {

/// The flavors that come up most, with how many of them a prompt has.
class FrequentFlavors {
 public:
  /// The `most` most frequent flavors of these prompts.
  FrequentFlavors(const std::vector<std::string>& prompts, std::size_t most);

  /// The query with `count` of them behind it, drawn by their frequency, each once: a pure function of (seed, query,
  /// sample).
  std::string prompt(std::string_view query, std::size_t count, std::uint64_t seed, std::uint64_t sample) const;
  std::size_t size() const { return flavors_.size(); }

 private:
  std::vector<std::pair<std::string, std::size_t>> flavors_;  // with the number of prompts that have it
};

/// The prompts that are nearest to a query by the cosine of their content words, weighted by how rare they are
/// (tf-idf, Salton and Buckley, 1988).
class NearestPrompts {
 public:
  explicit NearestPrompts(std::vector<std::string> prompts);

  /// The `count` nearest different ones, the nearest first; fewer where there are fewer.
  std::vector<std::string> find(std::string_view query, std::size_t count) const;

 private:
  std::vector<std::string> prompts_;
  std::unordered_map<std::string, std::vector<std::uint32_t>> with_word_;
  std::vector<double> lengths_;
};

/// How many segments a prompt has behind its query, or behind its first segment where it does not open with the query.
std::size_t added_segments(std::string_view query, std::string_view prompt);

}  // namespace unfurl::train
