// Kernels that treat every element by itself, a vector of 16 bytes at a time. Such an operation is a struct:
//
//   struct Loaded {...};                                           // what it reads, raw
//   template <bool kAligned> Loaded load(const Piece&) const;
//   template <bool kAligned> void store(const Piece&, const Loaded&) const;
//
// A thread loads all its pieces before it stores the first. Matrices whose rows follow each other without gaps are
// taken for one long row; those that vectors cannot read are read element by element.
#pragma once
#include "kernels/device/vector.h"

namespace unfurl::kernels {
namespace {

/// kWidth elements of a row, or what is left of it.
struct Piece {
  Index row, col;
  int count;
};

/// kWidth elements of T, raw.
template <class T, int kWidth = kVectorSize<T>>
struct Elements {
  static constexpr int kVectors = kWidth / kVectorSize<T>;
  Vector<T> vectors[kVectors];

  UNFURL_DEVICE void to_floats(float (&out)[kWidth]) const {
#pragma unroll
    for (int v = 0; v < kVectors; ++v) {
      float part[kVectorSize<T>];
      vectors[v].to_floats(part);
#pragma unroll
      for (int i = 0; i < kVectorSize<T>; ++i) out[v * kVectorSize<T> + i] = part[i];
    }
  }
};

template <bool kAligned, int kWidth, class T>
UNFURL_DEVICE Elements<T, kWidth> load_elements(const T* from, int count) {
  Elements<T, kWidth> out;
  constexpr int kStep = kVectorSize<T>;
  if (kAligned && count == kWidth) {
#pragma unroll
    for (int v = 0; v < kWidth / kStep; ++v) out.vectors[v] = load_vector(from + v * kStep);
  } else {
#pragma unroll
    for (int v = 0; v < kWidth / kStep; ++v) {
      float values[kStep];
      load_some(values, from + v * kStep, count - v * kStep);
      out.vectors[v] = Vector<T>::from_floats(values);
    }
  }
  return out;
}

template <bool kAligned, int kWidth, class T>
UNFURL_DEVICE void store_elements(T* to, const float (&values)[kWidth], int count) {
  constexpr int kStep = kVectorSize<T>;
#pragma unroll
  for (int v = 0; v < kWidth / kStep; ++v) {
    float part[kStep];
#pragma unroll
    for (int i = 0; i < kStep; ++i) part[i] = values[v * kStep + i];
    if (kAligned && count == kWidth) {
      store_vector(to + v * kStep, Vector<T>::from_floats(part));
    } else {
      store_some(to + v * kStep, part, count - v * kStep);
    }
  }
}

/// Half a vector of bf16: the copy of a vector of float.
template <bool kAligned>
UNFURL_DEVICE void store_copy(bf16* to, const float (&values)[4], int count) {
  if (kAligned && count == 4) {
#if !defined(__CUDACC__)
    host::check_alignment(to, 8, "vector store");
#endif
    *reinterpret_cast<uint2*>(to) =
        make_uint2(ptx::pack_bf16(values[0], values[1]), ptx::pack_bf16(values[2], values[3]));
  } else {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (i < count) to[i] = as<bf16>(values[i]);
    }
  }
}

constexpr int kMapThreads = 256;
constexpr int kMapPieces = 2;  // a thread

/// i / n; most matrices are small enough for the quick division.
UNFURL_DEVICE Index quotient(Index i, Index n) {
  if ((i | n) <= Index{0xffffffff}) return static_cast<std::uint32_t>(i) / static_cast<std::uint32_t>(n);
  return i / n;
}

template <bool kAligned, int kWidth, class Op>
__global__ void __launch_bounds__(kMapThreads) map_kernel(Op op, Index pieces, Index across, Index cols) {
  Piece at[kMapPieces];
  typename Op::Loaded in[kMapPieces];
#pragma unroll
  for (int p = 0; p < kMapPieces; ++p) {
    const Index i = (Index{blockIdx.x} * kMapPieces + p) * kMapThreads + static_cast<int>(threadIdx.x);
    at[p].count = 0;
    if (i >= pieces) continue;
    at[p].row = pieces == across ? 0 : quotient(i, across);
    at[p].col = (i - at[p].row * across) * kWidth;
    at[p].count = static_cast<int>(cols - at[p].col < kWidth ? cols - at[p].col : kWidth);
    in[p] = op.template load<kAligned>(at[p]);
  }
#pragma unroll
  for (int p = 0; p < kMapPieces; ++p) {
    if (at[p].count > 0) op.template store<kAligned>(at[p], in[p]);
  }
}

/// Runs op over [rows, cols]. `matrices` are all that it touches; null ones are none.
template <int kWidth, class Op, class... Matrices>
void map(const LaunchOn& on, const Op& op, Index rows, Index cols, const Matrices&... matrices) {
  if (rows == 0 || cols == 0) return;
  if (((matrices.data == nullptr || matrices.stride == cols) && ...)) cols *= rows, rows = 1;
  const bool aligned = (vector_aligned(matrices.data, rows == 1 ? 0 : matrices.stride) && ...);
  const Index across = (cols + kWidth - 1) / kWidth, pieces = rows * across;
  const Index blocks = (pieces + kMapThreads * kMapPieces - 1) / (kMapThreads * kMapPieces);
  launch(on, aligned ? map_kernel<true, kWidth, Op> : map_kernel<false, kWidth, Op>,
         dim3(static_cast<unsigned>(blocks)), dim3(kMapThreads), 0, op, pieces, across, cols);
}

}  // namespace
}  // namespace unfurl::kernels
