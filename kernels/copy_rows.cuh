// Copies of whole rows that a list chooses, a warp a row.
#pragma once
#include "kernels/device/vector.h"

namespace unfurl::kernels {
namespace {

constexpr int kCopyThreads = 256;
constexpr int kCopyVectors = 4;  // in flight in a lane

/// The place of `row` in the rising list, or -1.
UNFURL_DEVICE Index find_row(const std::int32_t* rows, Index count, Index row) {
  Index first = 0, last = count;
  while (first < last) {
    const Index middle = (first + last) / 2;
    if (rows[middle] < row) {
      first = middle + 1;
    } else {
      last = middle;
    }
  }
  return first < count && rows[first] == row ? first : -1;
}

/// y[i,:] = x[rows[i],:], or, where kScatter, y[i,:] = x[the place of i in rows,:] and zero where it has none.
template <class T, bool kScatter, bool kAligned>
__global__ void __launch_bounds__(kCopyThreads)
    copy_rows_kernel(Matrix<T> y, Matrix<const T> x, const std::int32_t* rows, Index count, Index total, Index cols) {
  const Index i = Index{blockIdx.x} * (kCopyThreads / 32) + static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  if (i >= total) return;
  Index source;
  if constexpr (kScatter) {
    source = find_row(rows, count, i);
  } else {
    source = rows[i];
  }
  T* to = y.row(i);
  const T* from = source >= 0 ? x.row(source) : nullptr;
  Index done = 0;
  if constexpr (kAligned) {
    constexpr int kWidth = kVectorSize<T>;
    const Index vectors = cols / kWidth;
    for (Index first = lane; first < vectors; first += 32 * kCopyVectors) {
      Vector<T> values[kCopyVectors];
#pragma unroll
      for (int v = 0; v < kCopyVectors; ++v) {
        values[v].bits = make_uint4(0, 0, 0, 0);
        if (from != nullptr && first + 32 * v < vectors) values[v] = load_vector(from + (first + 32 * v) * kWidth);
      }
#pragma unroll
      for (int v = 0; v < kCopyVectors; ++v) {
        if (first + 32 * v < vectors) store_vector(to + (first + 32 * v) * kWidth, values[v]);
      }
    }
    done = vectors * kWidth;
  }
  for (Index c = done + lane; c < cols; c += 32) to[c] = from != nullptr ? from[c] : T{};
}

template <bool kScatter, class T>
void copy_rows(const LaunchOn& on, Matrix<T> y, Matrix<const T> x, const std::int32_t* rows, Index count, Index total,
               Index cols) {
  if (total == 0) return;
  const bool aligned = vector_aligned(y.data, y.stride) && vector_aligned(x.data, x.stride);
  launch(on, aligned ? copy_rows_kernel<T, kScatter, true> : copy_rows_kernel<T, kScatter, false>,
         dim3(static_cast<unsigned>((total + kCopyThreads / 32 - 1) / (kCopyThreads / 32))), dim3(kCopyThreads), 0, y,
         x, rows, count, total, cols);
}

}  // namespace
}  // namespace unfurl::kernels
