#include "train/corpus/ngrams.h"

#include <algorithm>
#include <string>

#include "core/files.h"
#include "train/corpus/text.h"

namespace unfurl::train {

std::vector<std::uint64_t> SeenNgrams::grams(std::string_view prompt) const {
  std::vector<std::uint64_t> words;
  for (const std::string_view word : split_words(prompt)) {
    if (const std::string_view plain = bare(word); !plain.empty()) words.push_back(hash_bytes(lower(plain)));
  }
  std::vector<std::uint64_t> out;
  if (words.empty()) return out;
  const std::size_t length = std::min(n_, words.size());
  for (std::size_t i = 0; i + length <= words.size(); ++i) {
    out.push_back(hash_bytes({reinterpret_cast<const char*>(&words[i]), length * sizeof(words[i])}));
  }
  return out;
}

void SeenNgrams::add(std::string_view prompt) {
  for (const std::uint64_t gram : grams(prompt)) seen_.insert(gram);
}

double SeenNgrams::share(std::string_view prompt) const {
  const auto all = grams(prompt);
  if (all.empty()) return 0;
  const auto found = std::count_if(all.begin(), all.end(), [&](std::uint64_t gram) { return seen_.contains(gram); });
  return static_cast<double>(found) / static_cast<double>(all.size());
}

}  // namespace unfurl::train
