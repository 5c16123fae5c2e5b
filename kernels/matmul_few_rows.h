// The part of matmul for few rows, as decoding has them: c[m,n] = (accumulate ? c : 0) + a[m,k] * b[n,k]^T.
//
// b is streamed once, over all threads, for all m rows; each element of c is one dot product, summed in the same order
// whatever m is, so a sequence decodes to the same bits alone and in a batch of up to kFewRows. Sums are float (double
// for double), rounded once. a and b of T, c of T or, on a GPU, of float where T is bf16: logits.
#pragma once
#include "kernels/queue.h"

namespace unfurl::kernels {

constexpr Index kFewRows = 8;

/// 1 <= m <= kFewRows. Overwrites c, or adds to it.
template <class Queue, class T, class C = T>
void matmul_few_rows(const Queue& queue, Matrix<C> c, Matrix<const T> a, Matrix<const T> b, Index m, Index n, Index k,
                     bool accumulate);

}  // namespace unfurl::kernels
