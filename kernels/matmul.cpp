#include "kernels/matmul.h"

#include <blis-serial/blis.h>

#include <algorithm>

#include "kernels/matmul_few_rows.h"

namespace unfurl::kernels {
namespace {

constexpr Index ceil_div(Index a, Index b) { return (a + b - 1) / b; }

/// How c is cut: tile (i, j) is rows [i * height, ...) and columns [j * width, ...). A function of the shape alone.
struct Grid {
  Index height, width, rows, cols;

  // Multiples of the 6 x 16 register tile of BLIS's x86 kernels.
  static Index even(Index size, Index parts, Index multiple) {
    return ceil_div(ceil_div(size, parts), multiple) * multiple;
  }

  /// Greater tiles cost less packing (measured, AVX2: 128 x 128 runs at 83 % of the peak, 256 x 512 at 94 %), more
  /// tiles keep more threads busy to the end. Halving stops at 16 tiles, or where a tile would get narrower than 96;
  /// below 4 tiles it goes on for as long as a tile has 2 MFLOP, some 20 microseconds.
  Grid(Index m, Index n, Index k) {
    Index down = ceil_div(m, 288), across = ceil_div(n, 512);
    while (true) {
      height = even(m, down, 6);
      width = even(n, across, 16);
      rows = ceil_div(m, height);
      cols = ceil_div(n, width);
      const Index longer = std::max(height, width);
      const bool for_balance = rows * cols < 16 && longer >= 192;
      const bool for_two = rows * cols < 4 && longer >= 64 && height * width * k >= (Index{1} << 20);
      if (!for_balance && !for_two) return;
      (height >= width ? down : across) *= 2;
    }
  }
};

void gemm(Index m, Index n, Index k, float* a, Index a_row, Index a_col, float* b, Index b_row, Index b_col, float beta,
          float* c, Index c_row, rntm_t* runtime) {
  float one = 1;
  bli_sgemm_ex(BLIS_NO_TRANSPOSE, BLIS_NO_TRANSPOSE, m, n, k, &one, a, a_row, a_col, b, b_row, b_col, &beta, c, c_row,
               1, nullptr, runtime);
}
void gemm(Index m, Index n, Index k, double* a, Index a_row, Index a_col, double* b, Index b_row, Index b_col,
          double beta, double* c, Index c_row, rntm_t* runtime) {
  double one = 1;
  bli_dgemm_ex(BLIS_NO_TRANSPOSE, BLIS_NO_TRANSPOSE, m, n, k, &one, a, a_row, a_col, b, b_row, b_col, &beta, c, c_row,
               1, nullptr, runtime);
}

}  // namespace

template <class Queue, class T>
void matmul(const Queue& queue, Matrix<T> c, Matrix<const T> a, bool transpose_a, Matrix<const T> b, bool transpose_b,
            Index m, Index n, Index k, bool accumulate) {
  if (m <= 0 || n <= 0) return;
  if (k <= 0) {
    for (Index i = 0; !accumulate && i < m; ++i) std::fill_n(c.row(i), n, T(0));
    return;
  }
  if (m <= kFewRows && !transpose_a && transpose_b) return matmul_few_rows(queue, c, a, b, m, n, k, accumulate);

  const Grid grid(m, n, k);
  const Index a_row = transpose_a ? 1 : a.stride, a_col = transpose_a ? a.stride : 1;
  const Index b_row = transpose_b ? 1 : b.stride, b_col = transpose_b ? b.stride : 1;
  queue.pool().parallel_for(grid.rows * grid.cols, [&](Index tile) {
    // Neighbours in time share the panel of the longer side, which is read from memory once.
    const Index i = (n > m ? tile % grid.rows : tile / grid.cols) * grid.height;
    const Index j = (n > m ? tile / grid.rows : tile % grid.cols) * grid.width;
    const Index height = std::min(grid.height, m - i), width = std::min(grid.width, n - j);
    rntm_t runtime;
    bli_rntm_init_from_global(&runtime);
    // BLIS takes its path for small products (no packing) for any tile of this size; packing is 5 to 25 % faster
    // (measured, most where a is transposed or k is small). Only slivers gain from the former.
    if (std::min(height, width) >= 32) bli_rntm_disable_l3_sup(&runtime);
    gemm(height, width, k, const_cast<T*>(a.data) + i * a_row, a_row, a_col, const_cast<T*>(b.data) + j * b_col, b_row,
         b_col, accumulate ? T(1) : T(0), c.row(i) + j, c.stride, &runtime);
  });
}

template void matmul(const CpuQueue&, Matrix<float>, Matrix<const float>, bool, Matrix<const float>, bool, Index, Index,
                     Index, bool);
template void matmul(const CpuQueue&, Matrix<double>, Matrix<const double>, bool, Matrix<const double>, bool, Index,
                     Index, Index, bool);

}  // namespace unfurl::kernels
