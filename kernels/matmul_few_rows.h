// The part of matmul for few rows, as decoding has them: c[m,n] = (accumulate ? c : 0) + a[m,k] * b[n,k]^T.
//
// b is streamed once, over all threads, for all m rows; each element of c is one dot product, summed in the same order
// whatever m is, so a sequence decodes to the same bits alone and in a batch of up to kFewRows. Sums are float (double
// for double), rounded once.
#pragma once
#include "kernels/queue.h"

namespace unfurl::kernels {

constexpr Index kFewRows = 8;

/// 1 <= m <= kFewRows. Overwrites c, or adds to it.
template <class Queue, class T>
void matmul_few_rows(const Queue& queue, Matrix<T> c, Matrix<const T> a, Matrix<const T> b, Index m, Index n, Index k,
                     bool accumulate);

}  // namespace unfurl::kernels
