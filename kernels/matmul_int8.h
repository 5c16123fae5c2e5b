// Products with a weight matrix whose elements are rounded to 8 bits, for decoding, which is bound by the bytes of the
// weights: 1.06 bytes an element against 4.
//
//   b[n,k] ~ scales[n, k / 64] * codes[n,k],    scales = max |b| over the 64 elements / 127
//   c[m,n] = sum_k a[m,k] * scales[n, k / 64] * codes[n,k]
//
// An element is off by at most half a scale. Activations stay float, or bf16 on a GPU. Each element of c is one sum of
// floats, in the same order whatever m is, so a sequence decodes to the same bits alone and in a batch.
#pragma once
#include <cstdint>

#include "kernels/matmul_few_rows.h"

namespace unfurl::kernels {

constexpr Index kInt8Block = 64;
constexpr Index int8_blocks(Index cols) { return (cols + kInt8Block - 1) / kInt8Block; }

/// A matrix [rows, cols] in 8 bits. codes: [rows, cols].  scales: [rows, int8_blocks(cols)]. Both dense.
template <class Code, class Scale>
struct Int8View {
  Code* codes = nullptr;
  Scale* scales = nullptr;
};
using Int8Matrix = Int8View<std::int8_t, float>;
using ConstInt8Matrix = Int8View<const std::int8_t, const float>;

/// Overwrites `to`. A block with an element that is not finite gets the scale NaN.
void quantize_int8(const CpuQueue& queue, Int8Matrix to, Matrix<const float> from, Index rows, Index cols);

/// 1 <= m <= kFewRows. Overwrites c.
void matmul_int8(const CpuQueue& queue, Matrix<float> c, Matrix<const float> a, ConstInt8Matrix b, Index m, Index n,
                 Index k);

/// The same on a device, with weights and activations of T, float or bf16, and c of T or float. The codes and scales of
/// the same weights are the CPU's.
template <class Queue, class T>
void quantize_int8(const Queue& queue, Int8Matrix to, Matrix<const T> from, Index rows, Index cols);
template <class Queue, class T, class C = T>
void matmul_int8(const Queue& queue, Matrix<C> c, Matrix<const T> a, ConstInt8Matrix b, Index m, Index n, Index k);

}  // namespace unfurl::kernels
