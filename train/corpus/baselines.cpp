#include "train/corpus/baselines.h"

#include <lzma.h>

#include <algorithm>
#include <bit>
#include <cmath>

#include "core/error.h"

namespace unfurl::train {
namespace {

/// What the query gives away of the prompt.
std::string_view given(const Pair& pair) {
  return std::string_view(pair.prompt).substr(0, pair.prompt.size() - after_query(pair).size());
}

/// Bytes of `xz -9e`. Its dictionary is cut to the text's size, which changes no match and saves memory.
std::size_t xz_size(const std::string& text) {
  lzma_options_lzma options;
  require(!lzma_lzma_preset(&options, 9 | LZMA_PRESET_EXTREME), "xz_baseline: liblzma has no preset 9e");
  const auto needed = static_cast<std::uint32_t>(std::min<std::size_t>(text.size(), std::size_t{1} << 26));
  options.dict_size = std::max<std::uint32_t>(LZMA_DICT_SIZE_MIN, std::bit_ceil(needed));
  lzma_filter filters[] = {{LZMA_FILTER_LZMA2, &options}, {LZMA_VLI_UNKNOWN, nullptr}};
  std::string out(lzma_stream_buffer_bound(text.size()), '\0');
  std::size_t size = 0;
  const lzma_ret result =
      lzma_stream_buffer_encode(filters, LZMA_CHECK_CRC64, nullptr, reinterpret_cast<const std::uint8_t*>(text.data()),
                                text.size(), reinterpret_cast<std::uint8_t*>(out.data()), &size, out.size());
  require(result == LZMA_OK, "xz_baseline: liblzma cannot compress {} bytes (error {})", text.size(),
          static_cast<int>(result));
  return size;
}

constexpr unsigned char kEnd = '\n';

/// The last `length` bytes of the history and the length itself in 64 bits; bytes before the start are line ends.
std::uint64_t context_key(std::string_view history, std::size_t length) {
  std::uint64_t key = 0;
  for (std::size_t i = length; i > 0; --i) {
    key = key << 8 | (i <= history.size() ? static_cast<unsigned char>(history[history.size() - i]) : kEnd);
  }
  return key << 4 | length;
}

/// With the next byte: contexts have at most 6 bytes, so context, length and byte fit in 60 bits.
std::uint64_t count_key(std::uint64_t context, unsigned char next) { return context << 8 | next; }

}  // namespace

std::string_view after_query(const Pair& pair) {
  const std::string_view prompt = pair.prompt;
  return prompt.starts_with(pair.query) ? prompt.substr(pair.query.size()) : prompt;
}

BaselineResult xz_baseline(std::span<const std::string> training, std::span<const Pair> test) {
  std::string full, queries;
  for (const std::string& prompt : training) full += prompt + '\n';
  queries = full;
  BaselineResult result;
  for (const Pair& pair : test) {
    full += pair.prompt + '\n';
    queries += std::string(given(pair)) + '\n';
    result.bytes += static_cast<std::int64_t>(after_query(pair).size());
  }
  if (result.bytes == 0) return result;
  result.bits = 8.0 * (static_cast<double>(xz_size(full)) - static_cast<double>(xz_size(queries)));
  return result;
}

ByteNgrams::ByteNgrams(int order) : order_(order) {
  require(order >= 2 && order <= 7, "ByteNgrams: order must be between 2 and 7, got {}", order);
}

void ByteNgrams::add(std::string_view prompt) {
  for (std::size_t i = 0; i <= prompt.size(); ++i) {
    const unsigned char next = i < prompt.size() ? static_cast<unsigned char>(prompt[i]) : kEnd;
    for (std::size_t length = static_cast<std::size_t>(order_); length-- > 0;) {
      const std::uint64_t key = context_key(prompt.substr(0, i), length);
      Context& context = contexts_[key];
      ++context.total;
      const std::uint32_t count = ++counts_[count_key(key, next)];
      if (count <= 3) {
        Few& few = few_[length];
        few.once += count == 1 ? 1 : count == 2 ? -1 : 0;
        few.twice += count == 2 ? 1 : count == 3 ? -1 : 0;
      }
      if (count > 1) break;  // a shorter context counts only the first time behind this longer one
      ++context.types;
    }
  }
}

double ByteNgrams::probability(std::string_view history, unsigned char next) const {
  double p = 1.0 / 256;
  for (std::size_t length = 0; length < static_cast<std::size_t>(order_); ++length) {
    const std::uint64_t key = context_key(history, length);
    const auto context = contexts_.find(key);
    if (context == contexts_.end()) break;  // no longer one was seen either
    const auto count = counts_.find(count_key(key, next));
    const double seen = count == counts_.end() ? 0 : count->second, total = context->second.total;
    const double once = static_cast<double>(few_[length].once), twice = static_cast<double>(few_[length].twice);
    // Without an n-gram seen once, or all of them seen once, the formula gives nothing of use.
    const double discount = once > 0 && twice > 0 ? once / (once + 2 * twice) : 0.5;
    p = (std::max(seen - discount, 0.0) + discount * context->second.types * p) / total;
  }
  return p;
}

double ByteNgrams::bits(std::string_view context, std::string_view text) const {
  const std::string line = std::string(context) + std::string(text);
  double sum = 0;
  for (std::size_t i = context.size(); i <= line.size(); ++i) {
    const unsigned char next = i < line.size() ? static_cast<unsigned char>(line[i]) : kEnd;
    sum -= std::log2(probability(std::string_view(line).substr(0, i), next));
  }
  return sum;
}

BaselineResult ngram_baseline(std::span<const std::string> training, std::span<const Pair> test, int order) {
  ByteNgrams model(order);
  for (const std::string& prompt : training) model.add(prompt);
  BaselineResult result;
  for (const Pair& pair : test) {
    const std::string_view rest = after_query(pair);
    result.bits += model.bits(given(pair), rest);
    result.bytes += static_cast<std::int64_t>(rest.size());
  }
  return result;
}

}  // namespace unfurl::train
