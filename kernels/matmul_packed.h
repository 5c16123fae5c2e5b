// Matrix products with more than a few rows and columns: both operands are packed once, by all threads, into panels as
// BLIS's register tiles read them; then tiles of c are handed out, each a loop over BLIS's micro-kernel. (One BLIS call
// a tile would pack its operands anew for each: 10 to 25 % of the time for the tiles that keep several threads busy.)
//
// k is cut into blocks that depend on k and the processor alone, and each element of c is the sum of its blocks in
// order, so neither tiles nor threads show in the bits.
#pragma once
#include "kernels/queue.h"

namespace unfurl::kernels {

/// An operand or result with element (i, j) at data[i * row + j * col].
template <class T>
struct Strided {
  T* data = nullptr;
  Index row = 0, col = 0;
};

/// c[m,n] = (accumulate ? c : 0) + a[m,k] * b[k,n]; c has row or column stride 1. Uses the calling thread's scratch.
template <class T>
void matmul_packed(ThreadPool& pool, Strided<T> c, Strided<const T> a, Strided<const T> b, Index m, Index n, Index k,
                   bool accumulate);

}  // namespace unfurl::kernels
