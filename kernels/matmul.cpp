#include "kernels/matmul.h"

#include <blis-serial/blis.h>

#include <algorithm>

#include "kernels/matmul_few_rows.h"
#include "kernels/matmul_packed.h"

namespace unfurl::kernels {
namespace {

constexpr Index ceil_div(Index a, Index b) { return (a + b - 1) / b; }

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

template <class Queue, class T, class C>
void matmul(const Queue& queue, Matrix<C> c, Matrix<const T> a, bool transpose_a, Matrix<const T> b, bool transpose_b,
            Index m, Index n, Index k, bool accumulate) {
  if (m <= 0 || n <= 0) return;
  if (k <= 0) {
    for (Index i = 0; !accumulate && i < m; ++i) std::fill_n(c.row(i), n, T(0));
    return;
  }
  if (m <= kFewRows && !transpose_a && transpose_b) return matmul_few_rows(queue, c, a, b, m, n, k, accumulate);

  const Index a_row = transpose_a ? 1 : a.stride, a_col = transpose_a ? a.stride : 1;
  const Index b_row = transpose_b ? 1 : b.stride, b_col = transpose_b ? b.stride : 1;
  if (std::min(m, n) >= 32) {
    return matmul_packed<T>(queue.pool(), c, {a.data, a_row, a_col}, {b.data, b_row, b_col}, m, n, k, accumulate);
  }

  // A sliver: its longer side is cut, and BLIS's path for small products packs nothing.
  const bool wide = n > m;
  const Index longer = std::max(m, n), piece = std::clamp<Index>(ceil_div(ceil_div(longer, 16), 48) * 48, 96, 512);
  queue.pool().parallel_for(ceil_div(longer, piece), [&](Index tile) {
    const Index i = wide ? 0 : tile * piece, j = wide ? tile * piece : 0;
    const Index height = wide ? m : std::min(piece, m - i), width = wide ? std::min(piece, n - j) : n;
    rntm_t runtime;
    bli_rntm_init_from_global(&runtime);
    gemm(height, width, k, const_cast<T*>(a.data) + i * a_row, a_row, a_col, const_cast<T*>(b.data) + j * b_col, b_row,
         b_col, accumulate ? T(1) : T(0), c.row(i) + j, c.stride, &runtime);
  });
}

template void matmul(const CpuQueue&, Matrix<float>, Matrix<const float>, bool, Matrix<const float>, bool, Index, Index,
                     Index, bool);
template void matmul(const CpuQueue&, Matrix<double>, Matrix<const double>, bool, Matrix<const double>, bool, Index,
                     Index, Index, bool);

}  // namespace unfurl::kernels
