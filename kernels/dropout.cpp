#include "kernels/dropout.h"

#include <cmath>

#include "kernels/blocks.h"
#include "kernels/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/dropout.cpp"
#include "hwy/foreach_target.h"  // before any other Highway header
#include "kernels/simd-inl.h"

#ifndef UNFURL_KERNELS_DROPOUT_ONCE_
#define UNFURL_KERNELS_DROPOUT_ONCE_
namespace unfurl::kernels {
namespace {

/// Elements [index, index + count) of one row; kept where the word's upper 24 bits are at least `threshold`.
template <class T>
struct DropoutRow {
  void (*drop)(T* y, const T* x, std::uint32_t threshold, T scale, const PhiloxKey& key, std::uint64_t index,
               Index count);
};
using DropoutTable = Functions<DropoutRow<float>, DropoutRow<double>>;

}  // namespace
}  // namespace unfurl::kernels
#endif  // UNFURL_KERNELS_DROPOUT_ONCE_

HWY_BEFORE_NAMESPACE();
namespace unfurl::kernels::HWY_NAMESPACE {
namespace {

constexpr Index kWords = 256;

#if HWY_TARGET == HWY_SCALAR

HWY_INLINE void philox_words(const PhiloxKey& key, std::uint64_t block, std::uint32_t* words) {
  for (std::uint64_t i = 0; i < kWords / 4; ++i) {
    const auto four = philox(key, block + i);
    for (std::uint64_t j = 0; j < 4; ++j) words[4 * i + j] = four[j];
  }
}

#else

/// The low and the high halves of the 64-bit products a * m.
HWY_INLINE void multiply(Vec<std::uint32_t> a, std::uint32_t m, Vec<std::uint32_t>& low, Vec<std::uint32_t>& high) {
  const Tag<std::uint32_t> d32;
  const Tag<std::uint64_t> d64;
  const auto factor = hn::Set(d32, m);
  const auto even = hn::MulEven(a, factor);
  const auto odd = hn::MulEven(hn::BitCast(d32, hn::ShiftRight<32>(hn::BitCast(d64, a))), factor);
  low = hn::OddEven(hn::BitCast(d32, hn::ShiftLeft<32>(odd)), hn::BitCast(d32, even));
  high = hn::OddEven(hn::BitCast(d32, odd), hn::BitCast(d32, hn::ShiftRight<32>(even)));
}

/// words[4 i + j] = philox(key, block + i)[j], i in [0, kWords / 4): a vector of counters at a time.
HWY_INLINE void philox_words(const PhiloxKey& key, std::uint64_t block, std::uint32_t* words) {
  const Tag<std::uint32_t> d;
  const Index lanes = static_cast<Index>(hn::Lanes(d));
  for (Index i = 0; i < kWords / 4; i += lanes) {
    const std::uint64_t first = block + static_cast<std::uint64_t>(i);
    auto c0 = hn::Iota(d, static_cast<std::uint32_t>(first));
    const auto carry = hn::VecFromMask(d, hn::Lt(c0, hn::Set(d, static_cast<std::uint32_t>(first))));
    auto c1 = hn::Sub(hn::Set(d, static_cast<std::uint32_t>(first >> 32)), carry);
    auto c2 = hn::Set(d, key.step), c3 = hn::Set(d, key.purpose);
    std::uint32_t k0 = static_cast<std::uint32_t>(key.seed), k1 = static_cast<std::uint32_t>(key.seed >> 32);
    for (int round = 0; round < 10; ++round) {
      Vec<std::uint32_t> low0, high0, low1, high1;
      multiply(c0, 0xD2511F53u, low0, high0);
      multiply(c2, 0xCD9E8D57u, low1, high1);
      c0 = hn::Xor(hn::Xor(high1, c1), hn::Set(d, k0));
      c2 = hn::Xor(hn::Xor(high0, c3), hn::Set(d, k1));
      c1 = low1;
      c3 = low0;
      k0 += 0x9E3779B9u;
      k1 += 0xBB67AE85u;
    }
    hn::StoreInterleaved4(c0, c1, c2, c3, d, words + 4 * i);
  }
}

#endif

template <class T>
void drop(T* y, const T* x, std::uint32_t threshold, T scale, const PhiloxKey& key, std::uint64_t index, Index count) {
  alignas(64) std::uint32_t words[kWords];
  const Index skip = static_cast<Index>(index % 4);
  std::uint64_t block = index / 4;
  for (Index done = -skip; done < count; done += kWords, block += kWords / 4) {
    philox_words(key, block, words);
    const Index first = done < 0 ? 0 : done, last = done + kWords < count ? done + kWords : count;
    const std::uint32_t* word = words + (first - done);
    const Index length = last - first;
#pragma GCC ivdep
    for (Index i = 0; i < length; ++i) {
      const T kept = x[first + i] * scale;
      y[first + i] = (word[i] >> 8) >= threshold ? kept : T{0};
    }
  }
}

}  // namespace

DropoutTable dropout_table() { return {{&drop<float>}, {&drop<double>}}; }

}  // namespace unfurl::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace unfurl::kernels {

HWY_EXPORT(dropout_table);

template <class Queue, class T>
void dropout(const Queue& queue, Matrix<T> y, Matrix<const T> x, float rate, const PhiloxKey& key,
             std::uint64_t first_index, Index rows, Index cols) {
  const DropoutRow<T> row = HWY_DYNAMIC_DISPATCH(dropout_table)();
  // uniform(word) = (word >> 8) 2^-24 >= rate, as integers.
  const auto threshold = static_cast<std::uint32_t>(std::ceil(std::ldexp(static_cast<double>(rate), 24)));
  const T scale = static_cast<T>(1 / (1 - static_cast<double>(rate)));
  for_tiles(queue.pool(), rows, cols, [&](Index first_row, Index last_row, Index first_col, Index last_col) {
    for (Index r = first_row; r < last_row; ++r) {
      row.drop(y.row(r) + first_col, x.row(r) + first_col, threshold, scale, key,
               first_index + static_cast<std::uint64_t>(r * cols + first_col), last_col - first_col);
    }
  });
}

template <class Queue, class T>
void dropout_at(const Queue& queue, Matrix<T> y, Matrix<const T> x, float rate, const PhiloxKey& key,
                const DropoutPosition* position, Index rows, Index cols) {
  dropout(queue, y, x, rate, {key.seed, key.purpose, position->step},
          position->first_row * static_cast<std::uint64_t>(cols), rows, cols);
}

#define UNFURL_INSTANTIATE(T)                                                                                       \
  template void dropout(const CpuQueue&, Matrix<T>, Matrix<const T>, float, const PhiloxKey&, std::uint64_t, Index, \
                        Index);                                                                                     \
  template void dropout_at(const CpuQueue&, Matrix<T>, Matrix<const T>, float, const PhiloxKey&,                    \
                           const DropoutPosition*, Index, Index);
UNFURL_INSTANTIATE(float)
UNFURL_INSTANTIATE(double)
#undef UNFURL_INSTANTIATE

}  // namespace unfurl::kernels
#endif  // HWY_ONCE
