// General matrix product.
//
//   c[m,n] = (accumulate ? c : 0) + op(a)[m,k] * op(b)[k,n],    op(x) = x, or its transpose
//
// a: [m,k], or [k,m] where transposed.  b: [k,n], or [n,k] where transposed.  c: [m,n]. a and b of T, c of T or, on a
// GPU, of float where T is bf16: a gradient that adds up over micro-batches. All in rows with strides. Sums are float
// (double for double), rounded once.
//
// On the CPU:
// Products of few rows (m <= 8, a plain, b transposed: decoding) take a path of their own that reads b once at memory
// speed. Others with fewer than 32 rows or columns are cut into pieces that depend on the shape alone, each one
// single-threaded BLIS call over the whole of k; all others are tiled (matmul_packed.h). The bits do not depend on the
// number of threads.
#pragma once
#include "kernels/queue.h"

namespace unfurl::kernels {

/// Overwrites c, or adds to it.
template <class Queue, class T, class C = T>
void matmul(const Queue& queue, Matrix<C> c, Matrix<const T> a, bool transpose_a, Matrix<const T> b, bool transpose_b,
            Index m, Index n, Index k, bool accumulate);

}  // namespace unfurl::kernels
