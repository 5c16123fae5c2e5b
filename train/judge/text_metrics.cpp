#include "train/judge/text_metrics.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "train/corpus/segments.h"
#include "train/corpus/text.h"

namespace unfurl::train {
namespace {

using Gram = std::vector<std::string>;

std::map<Gram, int> grams_of(const std::vector<std::string>& words, int n) {
  std::map<Gram, int> out;
  const auto size = static_cast<std::size_t>(n);
  for (std::size_t i = 0; i + size <= words.size(); ++i) {
    const auto first = words.begin() + static_cast<std::ptrdiff_t>(i);
    ++out[Gram(first, first + n)];
  }
  return out;
}

constexpr int kLongestGram = 4;

struct Counted {
  std::size_t words = 0;
  std::vector<std::map<Gram, int>> grams;  // by length - 1
};

double bleu(const std::vector<Counted>& texts, std::size_t which) {
  const Counted& text = texts[which];
  if (text.words == 0) return 0;
  double logarithm = 0;
  for (int n = 1; n <= kLongestGram; ++n) {
    const auto at = static_cast<std::size_t>(n - 1);
    double found = 0, all = 0;
    for (const auto& [gram, count] : text.grams[at]) {
      int most = 0;
      for (std::size_t other = 0; other < texts.size(); ++other) {
        if (other == which) continue;
        const auto in = texts[other].grams[at].find(gram);
        if (in != texts[other].grams[at].end()) most = std::max(most, in->second);
      }
      found += std::min(count, most);
      all += count;
    }
    const double smoothing = n == 1 ? 0 : 1;
    if (found + smoothing == 0) return 0;
    logarithm += std::log((found + smoothing) / (all + smoothing)) / kLongestGram;
  }
  // The reference whose length is nearest, the shorter of two that are.
  std::size_t nearest = 0;
  bool have = false;
  for (std::size_t other = 0; other < texts.size(); ++other) {
    if (other == which) continue;
    const auto far = [&](std::size_t words) { return words > text.words ? words - text.words : text.words - words; };
    const std::size_t words = texts[other].words;
    if (!have || far(words) < far(nearest) || (far(words) == far(nearest) && words < nearest)) nearest = words;
    have = true;
  }
  const double ratio = static_cast<double>(nearest) / static_cast<double>(text.words);
  return std::exp(logarithm + std::min(0.0, 1 - ratio));
}

}  // namespace

double distinct_n(const std::vector<std::string>& texts, int n) {
  std::set<Gram> different;
  std::size_t all = 0;
  for (const std::string& text : texts) {
    for (const auto& [gram, count] : grams_of(plain_words(text), n)) {
      different.insert(gram);
      all += static_cast<std::size_t>(count);
    }
  }
  return all == 0 ? 0 : static_cast<double>(different.size()) / static_cast<double>(all);
}

double self_bleu(const std::vector<std::string>& texts) {
  if (texts.size() < 2) return 0;
  std::vector<Counted> counted;
  for (const std::string& text : texts) {
    const std::vector<std::string> words = plain_words(text);
    Counted c{words.size(), {}};
    for (int n = 1; n <= kLongestGram; ++n) c.grams.push_back(grams_of(words, n));
    counted.push_back(std::move(c));
  }
  double sum = 0;
  for (std::size_t i = 0; i < counted.size(); ++i) sum += bleu(counted, i);
  return sum / static_cast<double>(counted.size());
}

double content_kept(std::string_view query, std::string_view text) {
  const std::vector<std::string> asked = content_words(query);
  if (asked.empty()) return 1;
  return static_cast<double>(count_said(asked, text)) / static_cast<double>(asked.size());
}

double unknown_share(std::string_view text, const std::unordered_set<std::string>& known) {
  std::size_t words = 0, unknown = 0;
  for (const std::string& word : plain_words(text)) {
    const bool letters = std::any_of(word.begin(), word.end(), [](char c) { return c >= 'a' && c <= 'z'; });
    if (!letters) continue;
    ++words;
    unknown += known.contains(word) ? 0 : 1;
  }
  return words == 0 ? 0 : static_cast<double>(unknown) / static_cast<double>(words);
}

double length(std::string_view text) { return static_cast<double>(split_words(text).size()); }

}  // namespace unfurl::train
