#include "kernels/dropout.h"

#include <cmath>

#include "kernels/map.cuh"

namespace unfurl::kernels {
namespace {

template <class T>
struct Dropout {
  static constexpr int kWidth = kVectorSize<T>;
  Matrix<T> y;
  Matrix<const T> x;
  PhiloxKey key;
  std::uint32_t threshold;  // kept where the word's upper 24 bits are at least this
  float factor;
  std::uint64_t first_index;
  Index cols;

  using Loaded = Elements<T>;
  template <bool kAligned>
  UNFURL_DEVICE Loaded load(const Piece& at) const {
    return load_elements<kAligned, kWidth>(x.row(at.row) + at.col, at.count);
  }
  template <bool kAligned>
  UNFURL_DEVICE void store(const Piece& at, const Loaded& in) const {
    const std::uint64_t index = first_index + static_cast<std::uint64_t>(at.row * cols + at.col);
    float out[kWidth];
    in.to_floats(out);
    if (index % 4 == 0) {
#pragma unroll
      for (int i = 0; i < kWidth; i += 4) {
        const auto words = philox(key, (index + static_cast<std::uint64_t>(i)) / 4);
#pragma unroll
        for (int j = 0; j < 4; ++j) out[i + j] = keep(words[static_cast<std::size_t>(j)], out[i + j]);
      }
    } else {  // only where the width is odd
#pragma unroll
      for (int i = 0; i < kWidth; ++i) out[i] = keep(word(index + static_cast<std::uint64_t>(i)), out[i]);
    }
    store_elements<kAligned>(y.row(at.row) + at.col, out, at.count);
  }

 private:
  UNFURL_DEVICE std::uint32_t word(std::uint64_t index) const {
    const auto words = philox(key, index / 4);
    const std::uint32_t even = index % 4 < 2 ? words[0] : words[2], odd = index % 4 < 2 ? words[1] : words[3];
    return index % 2 == 0 ? even : odd;
  }
  UNFURL_DEVICE float keep(std::uint32_t word, float value) const {
    return word >> 8 >= threshold ? value * factor : 0.0f;
  }
};

}  // namespace

template <class Queue, class T>
void dropout(const Queue& queue, Matrix<T> y, Matrix<const T> x, float rate, const PhiloxKey& key,
             std::uint64_t first_index, Index rows, Index cols) {
  const double exact = static_cast<double>(rate);
  // uniform(word) = (word >> 8) 2^-24 >= rate, as integers.
  const auto threshold = static_cast<std::uint32_t>(std::ceil(std::ldexp(exact, 24)));
  const Dropout<T> op{y, x, key, threshold, static_cast<float>(1 / (1 - exact)), first_index, cols};
  map<kVectorSize<T>>(queue, op, rows, cols, y, x);
}

#define UNFURL_INSTANTIATE(T)                                                                                          \
  template void dropout(const DeviceQueue&, Matrix<T>, Matrix<const T>, float, const PhiloxKey&, std::uint64_t, Index, \
                        Index);
UNFURL_INSTANTIATE(float)
UNFURL_INSTANTIATE(bf16)
#undef UNFURL_INSTANTIATE

}  // namespace unfurl::kernels
