// Matrix products with more than a few rows and columns, by a register tile of our own (matmul_kernel.h).
//
// The register tile reads both operands where they are as long as its rows are dense; only a transposed a or b is
// packed, by the task that needs it, into memory that stays in its core's L2 cache.
//
// k is cut into blocks that depend on k and the instruction set alone, and each element of c is the sum of its blocks
// in order, each summed in the order of k: neither tiles nor threads nor other rows and columns show in its bits.
#pragma once
#include "kernels/queue.h"

namespace unfurl::kernels {

/// An operand with element (i, j) at data[i * row + j * col].
template <class T>
struct Strided {
  T* data = nullptr;
  Index row = 0, col = 0;
};

/// c[m,n] = (accumulate ? c : 0) + a[m,k] * b[k,n]; one stride of a, and one of b, is 1.
template <class T>
void matmul_packed(ThreadPool& pool, Matrix<T> c, Strided<const T> a, Strided<const T> b, Index m, Index n, Index k,
                   bool accumulate);

}  // namespace unfurl::kernels
