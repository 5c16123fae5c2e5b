// A warp has kColumns rows of b and reads them once, some vectors of each in flight; a, which is small, comes from the
// cache as often as it is needed. A lane sums its own vectors in order, then the warp sums its lanes.
#include "kernels/matmul_few_rows.h"

#include "kernels/device/reduce.h"
#include "kernels/device/vector.h"

namespace unfurl::kernels {
namespace {

constexpr int kThreads = 128;
constexpr int kColumns = 2;

template <class T, class C>
struct FewRows {
  Matrix<C> c;
  Matrix<const T> a, b;
  int m;
  Index n, k;
  bool accumulate;
};

/// A vector of which the first `count` elements are in the row.
template <bool kAligned, class T>
UNFURL_DEVICE Vector<T> load(const T* from, Index count) {
  if (kAligned && count >= kVectorSize<T>) return load_vector(from);
  float values[kVectorSize<T>];
  load_some(values, from, static_cast<int>(count < 0 ? 0 : count));
  return Vector<T>::from_floats(values);
}

/// m <= kRows.
template <class T, class C, int kRows, bool kAligned>
__global__ void __launch_bounds__(kThreads) few_rows_kernel(FewRows<T, C> x) {
  constexpr int kWidth = kVectorSize<T>, kInFlight = kRows > 4 ? 2 : 4;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const Index first = (Index{blockIdx.x} * (kThreads / 32) + static_cast<int>(threadIdx.x) / 32) * kColumns;
  if (first >= x.n) return;  // whole warps
  float sums[kRows][kColumns] = {};
  for (Index at = lane * kWidth; at < x.k; at += 32 * kWidth * kInFlight) {
    Vector<T> b[kInFlight][kColumns];
#pragma unroll
    for (int v = 0; v < kInFlight; ++v) {
      const Index i = at + v * 32 * kWidth;
#pragma unroll
      for (int j = 0; j < kColumns; ++j) {
        const Index row = first + j < x.n ? first + j : first;
        b[v][j] = load<kAligned>(x.b.row(row) + i, x.k - i);
      }
    }
#pragma unroll
    for (int v = 0; v < kInFlight; ++v) {
      const Index i = at + v * 32 * kWidth;
      float right[kColumns][kWidth];
#pragma unroll
      for (int j = 0; j < kColumns; ++j) b[v][j].to_floats(right[j]);
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        if (r >= x.m) continue;
        float left[kWidth];
        load<kAligned>(x.a.row(r) + i, x.k - i).to_floats(left);
#pragma unroll
        for (int e = 0; e < kWidth; ++e) {
#pragma unroll
          for (int j = 0; j < kColumns; ++j) sums[r][j] += left[e] * right[j][e];
        }
      }
    }
  }
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
#pragma unroll
    for (int j = 0; j < kColumns; ++j) {
      if (r >= x.m) continue;  // the whole grid
      const float sum = warp_sum(sums[r][j]);
      if (lane != 0 || first + j >= x.n) continue;
      C* c = x.c.row(r) + first + j;
      *c = as<C>(x.accumulate ? as_float(*c) + sum : sum);
    }
  }
}

template <class T, class C, int kRows>
void run(const DeviceQueue& queue, const FewRows<T, C>& x) {
  const bool aligned = vector_aligned(x.a.data, x.m == 1 ? 0 : x.a.stride) && vector_aligned(x.b.data, x.b.stride);
  constexpr Index kBlock = kThreads / 32 * kColumns;
  launch(queue, aligned ? few_rows_kernel<T, C, kRows, true> : few_rows_kernel<T, C, kRows, false>,
         dim3(static_cast<unsigned>((x.n + kBlock - 1) / kBlock)), dim3(kThreads), 0, x);
}

}  // namespace

template <class Queue, class T, class C>
void matmul_few_rows(const Queue& queue, Matrix<C> c, Matrix<const T> a, Matrix<const T> b, Index m, Index n, Index k,
                     bool accumulate) {
  const FewRows<T, C> x{c, a, b, static_cast<int>(m), n, k, accumulate};
  if (m == 1) return run<T, C, 1>(queue, x);
  if (m == 2) return run<T, C, 2>(queue, x);
  if (m <= 4) return run<T, C, 4>(queue, x);
  run<T, C, 8>(queue, x);
}

#define UNFURL_INSTANTIATE(T, C)                                                                                      \
  template void matmul_few_rows(const DeviceQueue&, Matrix<C>, Matrix<const T>, Matrix<const T>, Index, Index, Index, \
                                bool);
UNFURL_INSTANTIATE(float, float)
UNFURL_INSTANTIATE(bf16, bf16)
UNFURL_INSTANTIATE(bf16, float)
#undef UNFURL_INSTANTIATE

}  // namespace unfurl::kernels
