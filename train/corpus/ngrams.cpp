#include "train/corpus/ngrams.h"

#include <algorithm>
#include <string>

#include "core/files.h"
#include "train/corpus/text.h"

namespace unfurl::train {

std::vector<std::uint64_t> SeenNgrams::grams(std::string_view text) const {
  const std::vector<std::string> words = plain_words(text);
  std::vector<std::uint64_t> out;
  if (words.empty()) return out;
  const std::size_t n = std::min(static_cast<std::size_t>(n_), words.size());
  for (std::size_t first = 0; first + n <= words.size(); ++first) {
    std::uint64_t hash = n;
    for (std::size_t i = first; i < first + n; ++i) hash = hash_bytes(words[i], hash);
    out.push_back(hash);
  }
  return out;
}

void SeenNgrams::add(std::string_view text) {
  for (const std::uint64_t gram : grams(text)) seen_.insert(gram);
}

double SeenNgrams::share(std::string_view text) const {
  const std::vector<std::uint64_t> all = grams(text);
  if (all.empty()) return 0;
  const auto seen = std::count_if(all.begin(), all.end(), [&](std::uint64_t gram) { return seen_.contains(gram); });
  return static_cast<double>(seen) / static_cast<double>(all.size());
}

}  // namespace unfurl::train
