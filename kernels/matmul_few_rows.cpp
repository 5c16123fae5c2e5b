#include "kernels/matmul_few_rows.h"

#include <algorithm>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/matmul_few_rows.cpp"
#include <hwy/foreach_target.h>  // must come before highway.h
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace unfurl::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// M rows of a against R rows of b, from row `first` of b on: M * R sums live in registers.
template <int M, int R, class T>
HWY_INLINE void block(Matrix<T> c, Matrix<const T> a, Matrix<const T> b, Index first, Index k, bool accumulate) {
  const hn::ScalableTag<T> d;
  const Index lanes = static_cast<Index>(hn::Lanes(d));
  const T *left[M], *rows[R];
  HWY_UNROLL(8)
  for (int i = 0; i < M; ++i) left[i] = a.row(i);
  HWY_UNROLL(8)
  for (int r = 0; r < R; ++r) rows[r] = b.row(first + r);
  hn::Vec<decltype(d)> sum[M][R];
  HWY_UNROLL(8)
  for (int i = 0; i < M; ++i) {
    HWY_UNROLL(8)
    for (int r = 0; r < R; ++r) sum[i][r] = hn::Zero(d);
  }
  const Index ahead = R * b.stride;  // the same place in the next block
  Index at = 0;
  for (; at + lanes <= k; at += lanes) {
    hn::Vec<decltype(d)> y[R];
    HWY_UNROLL(8)
    for (int r = 0; r < R; ++r) y[r] = hn::LoadU(d, rows[r] + at);
    HWY_UNROLL(8)
    for (int r = 0; r < R; ++r) __builtin_prefetch(rows[r] + at + ahead);
    HWY_UNROLL(8)
    for (int i = 0; i < M; ++i) {
      const auto x = hn::LoadU(d, left[i] + at);
      HWY_UNROLL(8)
      for (int r = 0; r < R; ++r) sum[i][r] = hn::MulAdd(x, y[r], sum[i][r]);
    }
  }
  HWY_UNROLL(8)
  for (int i = 0; i < M; ++i) {
    HWY_UNROLL(8)
    for (int r = 0; r < R; ++r) {
      T total = hn::GetLane(hn::SumOfLanes(d, sum[i][r]));
      for (Index rest = at; rest < k; ++rest) total += left[i][rest] * rows[r][rest];
      T& out = c.row(i)[first + r];
      out = accumulate ? out + total : total;
    }
  }
}

template <int M, int R, class T>
void columns(Matrix<T> c, Matrix<const T> a, Matrix<const T> b, Index first, Index last, Index k, bool accumulate) {
  for (; first + R <= last; first += R) block<M, R>(c, a, b, first, k, accumulate);
  for (; first < last; ++first) block<M, 1>(c, a, b, first, k, accumulate);
}

/// Columns [first, last) of c.
template <class T>
void few_rows(Matrix<T> c, Matrix<const T> a, Matrix<const T> b, Index m, Index first, Index last, Index k,
              bool accumulate) {
  // R is as great as the vector registers allow: 32 of them, or 16.
  constexpr bool kMany = HWY_TARGET == HWY_AVX3;
  switch (m) {
    case 1:
      return columns<1, 4>(c, a, b, first, last, k, accumulate);
    case 2:
      return columns<2, 4>(c, a, b, first, last, k, accumulate);
    case 3:
      return columns < 3, kMany ? 4 : 3 > (c, a, b, first, last, k, accumulate);
    case 4:
      return columns < 4, kMany ? 4 : 2 > (c, a, b, first, last, k, accumulate);
    case 5:
      return columns < 5, kMany ? 4 : 2 > (c, a, b, first, last, k, accumulate);
    case 6:
      return columns < 6, kMany ? 4 : 2 > (c, a, b, first, last, k, accumulate);
    case 7:
      return columns < 7, kMany ? 3 : 1 > (c, a, b, first, last, k, accumulate);
    default:
      return columns < 8, kMany ? 3 : 1 > (c, a, b, first, last, k, accumulate);
  }
}

void few_rows_f32(Matrix<float> c, Matrix<const float> a, Matrix<const float> b, Index m, Index first, Index last,
                  Index k, bool accumulate) {
  few_rows(c, a, b, m, first, last, k, accumulate);
}
void few_rows_f64(Matrix<double> c, Matrix<const double> a, Matrix<const double> b, Index m, Index first, Index last,
                  Index k, bool accumulate) {
  // For gradient checks; row by row has the same bits, and takes half as long to compile.
  for (Index i = 0; i < m; ++i) {
    few_rows<double>({c.row(i), c.stride}, {a.row(i), a.stride}, b, 1, first, last, k, accumulate);
  }
}

}  // namespace unfurl::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace unfurl::kernels {
namespace {
HWY_EXPORT(few_rows_f32);
HWY_EXPORT(few_rows_f64);

auto kernel_for(float) { return HWY_DYNAMIC_DISPATCH(few_rows_f32); }
auto kernel_for(double) { return HWY_DYNAMIC_DISPATCH(few_rows_f64); }

/// Calls body(first, last) for blocks of the n columns that read about 128 KiB of b each.
template <class Body>
void split(const CpuQueue& queue, Index n, Index row_bytes, const Body& body) {
  const Index step = std::max<Index>(12, (Index{128} << 10) / row_bytes / 12 * 12);
  queue.pool().parallel_for((n + step - 1) / step, [&](Index i) { body(i * step, std::min((i + 1) * step, n)); });
}
}  // namespace

template <class Queue, class T, class C>
void matmul_few_rows(const Queue& queue, Matrix<C> c, Matrix<const T> a, Matrix<const T> b, Index m, Index n, Index k,
                     bool accumulate) {
  const auto kernel = kernel_for(T{});
  split(queue, n, k * static_cast<Index>(sizeof(T)),
        [&](Index first, Index last) { kernel(c, a, b, m, first, last, k, accumulate); });
}

template void matmul_few_rows(const CpuQueue&, Matrix<float>, Matrix<const float>, Matrix<const float>, Index, Index,
                              Index, bool);
template void matmul_few_rows(const CpuQueue&, Matrix<double>, Matrix<const double>, Matrix<const double>, Index, Index,
                              Index, bool);

}  // namespace unfurl::kernels
#endif
