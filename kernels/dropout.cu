// The mask is never stored: an element's place in the tensor addresses its random number, forward and backward alike. A
// call of Philox gives the numbers of four neighbours.
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
  const DropoutPosition* position;  // null: the key's step and first_index
  std::uint32_t threshold;          // kept where the word's upper 24 bits are at least this
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
    PhiloxKey numbers = key;
    std::uint64_t index = first_index + static_cast<std::uint64_t>(at.row * cols + at.col);
    if (position != nullptr) {
      numbers.step = position->step;
      index += position->first_row * static_cast<std::uint64_t>(cols);
    }
    float out[kWidth];
    in.to_floats(out);
    if (index % 4 == 0) {
#pragma unroll
      for (int i = 0; i < kWidth; i += 4) {
        const auto words = philox(numbers, (index + static_cast<std::uint64_t>(i)) / 4);
#pragma unroll
        for (int j = 0; j < 4; ++j) out[i + j] = keep(words[static_cast<std::size_t>(j)], out[i + j]);
      }
    } else {  // only where the width is odd
#pragma unroll
      for (int i = 0; i < kWidth; ++i) out[i] = keep(word(numbers, index + static_cast<std::uint64_t>(i)), out[i]);
    }
    store_elements<kAligned>(y.row(at.row) + at.col, out, at.count);
  }

 private:
  UNFURL_DEVICE static std::uint32_t word(const PhiloxKey& key, std::uint64_t index) {
    const auto words = philox(key, index / 4);
    const std::uint32_t even = index % 4 < 2 ? words[0] : words[2], odd = index % 4 < 2 ? words[1] : words[3];
    return index % 2 == 0 ? even : odd;
  }
  UNFURL_DEVICE float keep(std::uint32_t word, float value) const {
    return word >> 8 >= threshold ? value * factor : 0.0f;
  }
};

template <class T>
void run(const DeviceQueue& queue, Matrix<T> y, Matrix<const T> x, float rate, const PhiloxKey& key,
         const DropoutPosition* position, std::uint64_t first_index, Index rows, Index cols) {
  const double exact = static_cast<double>(rate);
  // uniform(word) = (word >> 8) 2^-24 >= rate, as integers.
  const auto threshold = static_cast<std::uint32_t>(std::ceil(std::ldexp(exact, 24)));
  const Dropout<T> op{y, x, key, position, threshold, static_cast<float>(1 / (1 - exact)), first_index, cols};
  map<kVectorSize<T>>(queue, op, rows, cols, y, x);
}

}  // namespace

template <class Queue, class T>
void dropout(const Queue& queue, Matrix<T> y, Matrix<const T> x, float rate, const PhiloxKey& key,
             std::uint64_t first_index, Index rows, Index cols) {
  run(queue, y, x, rate, key, nullptr, first_index, rows, cols);
}

template <class Queue, class T>
void dropout_at(const Queue& queue, Matrix<T> y, Matrix<const T> x, float rate, const PhiloxKey& key,
                const DropoutPosition* position, Index rows, Index cols) {
  run(queue, y, x, rate, key, position, 0, rows, cols);
}

#define UNFURL_INSTANTIATE(T)                                                                                          \
  template void dropout(const DeviceQueue&, Matrix<T>, Matrix<const T>, float, const PhiloxKey&, std::uint64_t, Index, \
                        Index);                                                                                        \
  template void dropout_at(const DeviceQueue&, Matrix<T>, Matrix<const T>, float, const PhiloxKey&,                    \
                           const DropoutPosition*, Index, Index);
UNFURL_INSTANTIATE(float)
UNFURL_INSTANTIATE(bf16)
#undef UNFURL_INSTANTIATE

}  // namespace unfurl::kernels
