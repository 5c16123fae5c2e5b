// What a prompt costs without a model: the figures that stand beside a trained model's bits per byte. Both give the
// query for free, as a model has it.
#pragma once
#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "train/corpus/pair.h"

namespace unfurl::train {

/// The part of the prompt that the query does not give away: what follows the query where the prompt opens with it,
/// else the whole prompt.
std::string_view after_query(const Pair& pair);

struct BaselineResult {
  double bits = 0;         // for the after-query parts of all pairs, each with its end
  std::int64_t bytes = 0;  // of the after-query parts in UTF-8, ends not counted
  /// Bits per byte; 0 where there is no byte.
  double bits_per_byte() const { return bytes == 0 ? 0 : bits / static_cast<double>(bytes); }
};

/// `xz -9e` with the training prompts as its past: 8 * (size(training + full lines) - size(training + queries)), where
/// a full line is what the query gives away and the after-query part, and all lines end in a line end. The second
/// stream holds, line by line, what the first one is told for free. It also refunds one line end a pair, which errs in
/// favour of xz.
///
/// Memory: about 12 bytes per byte of text. Throws Error where the compressor fails (memory).
BaselineResult xz_baseline(std::span<const std::string> training, std::span<const Pair> test);

/// A byte n-gram model of order 2 to 7 (6: five bytes of context and the next one), with interpolated Kneser-Ney
/// smoothing (Kneser and Ney, 1995): with N the count of a context and T the different bytes behind it,
///
///   P(c | context) = (max(count(context, c) - D, 0) + D * T * P(c | shorter context)) / N,   P(c) at the bottom =
///   1/256.
///
/// The longest contexts count occurrences, shorter ones the different bytes in front of them; D = n1 / (n1 + 2 n2) of
/// the n-grams of that length that count once and twice. The end of a prompt is a line end, and its start is behind
/// one.
class ByteNgrams {
 public:
  /// Throws Error for another order.
  explicit ByteNgrams(int order = 6);
  void add(std::string_view prompt);
  /// Bits of `text` and its end, behind `context`.
  double bits(std::string_view context, std::string_view text) const;

 private:
  struct Context {
    std::uint32_t total = 0, types = 0;
  };
  struct Few {
    std::int64_t once = 0, twice = 0;  // n-grams of a length
  };
  double probability(std::string_view history, unsigned char next) const;
  int order_;
  std::unordered_map<std::uint64_t, Context> contexts_;
  std::unordered_map<std::uint64_t, std::uint32_t> counts_;
  std::array<Few, 7> few_;  // by length of the context
};

/// The pairs' after-query parts by a ByteNgrams of the training prompts, with the query as their context (where the
/// prompt does not open with it: none).
BaselineResult ngram_baseline(std::span<const std::string> training, std::span<const Pair> test, int order = 6);

}  // namespace unfurl::train
