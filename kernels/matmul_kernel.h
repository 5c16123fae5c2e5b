// The innermost part of matmul_packed: one register tile of c, and the packing of operands that it cannot read as they
// are. Compiled for each instruction set.
#pragma once
#include "kernels/types.h"

namespace unfurl::kernels {

/// The functions of one instruction set, and the sizes that suit it.
template <class T>
struct MatmulKernel {
  Index mr, nr;  // rows and columns of a register tile
  Index kc;      // length of a sum that is held in registers: a panel of mr * kc stays in the L1 cache
  Index nc;      // columns of b, by kc, that stay in the L2 cache; a multiple of nr
  Index lanes;   // of a vector: panels of b are as wide as their columns, rounded up to it

  /// c[rows, cols] = (accumulate ? c : 0) + a[rows, k] b[k, cols], rows <= mr, cols <= nr: each element is summed in
  /// the order of k. a[i, l] is a[i * a_row + l * a_col]; b's rows are read up to cols rounded up to `lanes`, and some
  /// of them are prefetched.
  void (*run)(T* c, Index c_row, const T* a, Index a_row, Index a_col, const T* b, Index b_row, Index rows, Index cols,
              Index k, bool accumulate);

  /// panel[l * width + i] = from[i * stride + l], i < count, l < length; 0 for i from count to width.
  void (*pack_across)(T* panel, Index width, const T* from, Index stride, Index count, Index length);

  /// panel[l * width + i] = from[l * stride + i], likewise.
  void (*pack_along)(T* panel, Index width, const T* from, Index stride, Index count, Index length);

  /// panels[i / mr * panel + l * mr + i % mr] = from[l * stride + i], i < count, l < length.
  void (*pack_rows)(T* panels, Index panel, const T* from, Index stride, Index count, Index length);
};

/// Those of the best instruction set of this machine.
template <class T>
MatmulKernel<T> matmul_kernel();

}  // namespace unfurl::kernels
