// Sums, scaling, filling, conversion: one read and one write of every element (kernels/map.cuh). Rows that a list
// chooses are gathered and scattered by kernels/copy_rows.cuh.
#include "kernels/elementwise.h"

#include "kernels/copy_rows.cuh"
#include "kernels/map.cuh"

namespace unfurl::kernels {
namespace {

/// y = a * factor + b; what is null is left out.
template <class T>
struct Sum {
  static constexpr int kWidth = kVectorSize<T>;
  Matrix<T> y;
  Matrix<const T> a, b;
  float factor;

  struct Loaded {
    Elements<T> a, b;
  };
  template <bool kAligned>
  UNFURL_DEVICE Loaded load(const Piece& at) const {
    Loaded in;
    in.a = load_elements<kAligned, kWidth>(a.row(at.row) + at.col, at.count);
    if (b.data != nullptr) in.b = load_elements<kAligned, kWidth>(b.row(at.row) + at.col, at.count);
    return in;
  }
  template <bool kAligned>
  UNFURL_DEVICE void store(const Piece& at, const Loaded& in) const {
    float out[kWidth], more[kWidth];
    in.a.to_floats(out);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) out[i] *= factor;
    if (b.data != nullptr) {
      in.b.to_floats(more);
#pragma unroll
      for (int i = 0; i < kWidth; ++i) out[i] += more[i];
    }
    store_elements<kAligned>(y.row(at.row) + at.col, out, at.count);
  }
};

template <class T>
struct Fill {
  static constexpr int kWidth = kVectorSize<T>;
  Matrix<T> y;
  float value;

  struct Loaded {};
  template <bool kAligned>
  UNFURL_DEVICE Loaded load(const Piece&) const {
    return {};
  }
  template <bool kAligned>
  UNFURL_DEVICE void store(const Piece& at, const Loaded&) const {
    float out[kWidth];
#pragma unroll
    for (int i = 0; i < kWidth; ++i) out[i] = value;
    store_elements<kAligned>(y.row(at.row) + at.col, out, at.count);
  }
};

template <class To, class From>
struct Convert {
  static constexpr int kWidth = kVectorSize<To> > kVectorSize<From> ? kVectorSize<To> : kVectorSize<From>;
  Matrix<To> y;
  Matrix<const From> x;

  using Loaded = Elements<From, kWidth>;
  template <bool kAligned>
  UNFURL_DEVICE Loaded load(const Piece& at) const {
    return load_elements<kAligned, kWidth>(x.row(at.row) + at.col, at.count);
  }
  template <bool kAligned>
  UNFURL_DEVICE void store(const Piece& at, const Loaded& in) const {
    float out[kWidth];
    in.to_floats(out);
    store_elements<kAligned>(y.row(at.row) + at.col, out, at.count);
  }
};

}  // namespace

template <class Queue, class T>
void add(const Queue& queue, Matrix<T> y, Matrix<const T> a, Matrix<const T> b, Index rows, Index cols) {
  map<kVectorSize<T>>(queue, Sum<T>{y, a, b, 1.0f}, rows, cols, y, a, b);
}

template <class Queue, class T>
void scale(const Queue& queue, Matrix<T> y, Matrix<const T> x, Accumulator<T> factor, Index rows, Index cols) {
  map<kVectorSize<T>>(queue, Sum<T>{y, x, {}, factor}, rows, cols, y, x);
}

template <class Queue, class T>
void add_scaled(const Queue& queue, T* y, const T* x, T factor, Index count) {
  const Matrix<T> sum{y, count};
  const Matrix<const T> term{x, count};
  float by;
  if constexpr (sizeof(T) == 4) {
    by = factor;
  } else {
    by = to_float(factor);
  }
  map<kVectorSize<T>>(queue, Sum<T>{sum, term, sum, by}, 1, count, sum, term);
}

template <class Queue, class T>
void fill(const Queue& queue, Matrix<T> y, T value, Index rows, Index cols) {
  float bits;
  if constexpr (sizeof(T) == 4) {
    bits = value;
  } else {
    bits = to_float(value);
  }
  map<kVectorSize<T>>(queue, Fill<T>{y, bits}, rows, cols, y);
}

template <class Queue, class To, class From>
void convert(const Queue& queue, Matrix<To> y, Matrix<const From> x, Index rows, Index cols) {
  map<Convert<To, From>::kWidth>(queue, Convert<To, From>{y, x}, rows, cols, y, x);
}

template <class Queue, class T>
void gather_rows(const Queue& queue, Matrix<T> y, Matrix<const T> x, const std::int32_t* rows, Index count,
                 Index cols) {
  copy_rows<false>(queue, y, x, rows, count, count, cols);
}

template <class Queue, class T>
void scatter_rows(const Queue& queue, Matrix<T> y, Matrix<const T> x, const std::int32_t* rows, Index count,
                  Index total, Index cols) {
  copy_rows<true>(queue, y, x, rows, count, total, cols);
}

#define UNFURL_INSTANTIATE(T)                                                                                   \
  template void add(const DeviceQueue&, Matrix<T>, Matrix<const T>, Matrix<const T>, Index, Index);             \
  template void scale(const DeviceQueue&, Matrix<T>, Matrix<const T>, float, Index, Index);                     \
  template void add_scaled(const DeviceQueue&, T*, const T*, T, Index);                                         \
  template void fill(const DeviceQueue&, Matrix<T>, T, Index, Index);                                           \
  template void gather_rows(const DeviceQueue&, Matrix<T>, Matrix<const T>, const std::int32_t*, Index, Index); \
  template void scatter_rows(const DeviceQueue&, Matrix<T>, Matrix<const T>, const std::int32_t*, Index, Index, \
                             Index);                                                                            \
  template void convert(const DeviceQueue&, Matrix<T>, Matrix<const float>, Index, Index);                      \
  template void convert(const DeviceQueue&, Matrix<T>, Matrix<const bf16>, Index, Index);
UNFURL_INSTANTIATE(float)
UNFURL_INSTANTIATE(bf16)
#undef UNFURL_INSTANTIATE

}  // namespace unfurl::kernels
