// RMSNorm and LayerNorm, which are one algorithm: RMSNorm leaves the mean out (kCentered = false) and has no bias.
// rms_norm.h and layer_norm.h hold the contracts. The gradients, with xhat = (s - mean) rstd and g = dy gain:
//
//   dx = ds + rstd (g - [mean_c(g)] - xhat mean_c(g xhat)),   dgain = sum_r(dy xhat),   dbias = sum_r(dy)
//
// Every pass but the first over a row finds it in the first-level cache, so the memory traffic is one read of each
// input and one write of each output.

#ifndef UNFURL_KERNELS_NORM_ONCE_
#define UNFURL_KERNELS_NORM_ONCE_
#include <cmath>

#include "kernels/blocks.h"
#include "kernels/queue.h"
#include "kernels/simd.h"

namespace unfurl::kernels {
namespace {

template <class T>
struct NormForward {
  Matrix<T> y, s;
  T* mean;  // null for RMSNorm
  T* rstd;
  Matrix<const T> x, residual;
  const T* gain;
  const T* bias;
  Index cols;
  T eps;
};

template <class T>
struct NormBackward {
  Matrix<T> dx;
  Matrix<const T> dy, ds, s;
  const T* gain;
  const T* mean;
  const T* rstd;
  Index cols;
};

/// `partial` receives the sums of dgain [cols] and, for LayerNorm, of dbias [cols] over the rows.
template <class T>
struct NormRows {
  void (*forward)(const NormForward<T>&, Index first, Index last);
  void (*backward)(const NormBackward<T>&, T* partial, Index first, Index last);
  void (*accumulate)(T* y, const T* x, Index count);
};
using NormTable = Functions<NormRows<float>, NormRows<double>>;

template <class T>
void norm_forward(const NormRows<T>& rows_of, const CpuQueue& queue, const NormForward<T>& a, Index rows) {
  for_row_blocks(queue.pool(), rows, task_rows(a.cols),
                 [&](Index first, Index last) { rows_of.forward(a, first, last); });
}

/// Parameter gradients: a partial sum for each of at most 64 blocks of rows, then the partials in order.
template <class T>
void norm_backward(const NormRows<T>& rows_of, const CpuQueue& queue, const NormBackward<T>& a, T* dgain, T* dbias,
                   bool centered, Index rows) {
  if (rows == 0) return;
  const Index cols = a.cols, width = centered ? 2 * cols : cols;
  const Index block = std::max(task_rows(cols), ceil_div(rows, 64)), blocks = ceil_div(rows, block);
  T* partials = static_cast<T*>(queue.scratch(static_cast<std::size_t>(blocks * width) * sizeof(T)));
  for_row_blocks(queue.pool(), rows, block,
                 [&](Index first, Index last) { rows_of.backward(a, partials + first / block * width, first, last); });
  constexpr Index kColumns = 256;
  for_row_blocks(queue.pool(), cols, kColumns, [&](Index first, Index last) {
    for (int which = 0; which < (centered ? 2 : 1); ++which) {
      T* gradient = which == 0 ? dgain : dbias;
      if (gradient == nullptr) continue;
      T* sum = partials + which * cols + first;
      for (Index b = 1; b < blocks; ++b) rows_of.accumulate(sum, sum + b * width, last - first);
      rows_of.accumulate(gradient + first, sum, last - first);
    }
  });
}

}  // namespace
}  // namespace unfurl::kernels
#endif  // UNFURL_KERNELS_NORM_ONCE_

#if defined(UNFURL_KERNELS_NORM_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef UNFURL_KERNELS_NORM_INL_H_
#undef UNFURL_KERNELS_NORM_INL_H_
#else
#define UNFURL_KERNELS_NORM_INL_H_
#endif

#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace unfurl::kernels::HWY_NAMESPACE {
namespace {

template <class T, bool kCentered>
void norm_forward_rows(const NormForward<T>& a, Index first, Index last) {
  const Tag<T> d;
  const Index cols = a.cols;
  for (Index r = first; r < last; ++r) {
    const T* s = a.x.row(r);
    if (a.residual.data != nullptr) {
      const T* residual = a.residual.row(r);
      T* total = a.s.row(r);
      vectors<T>(cols, [&](const auto& io, Index c)
                           HWY_ATTR { io.store(hn::Add(io.load(s + c), io.load(residual + c)), total + c); });
      s = total;
    }
    T mean = 0;
    if constexpr (kCentered) {
      auto sum = hn::Zero(d);
      vectors<T>(cols, [&](const auto& io, Index c) HWY_ATTR { sum = hn::Add(sum, io.load(s + c)); });
      mean = sum_of_lanes<T>(sum) / static_cast<T>(cols);
      a.mean[r] = mean;
    }
    const auto mean_v = hn::Set(d, mean);
    auto squares = hn::Zero(d);
    vectors<T>(cols, [&](const auto& io, Index c) HWY_ATTR {
      const auto v = io.keep(hn::Sub(io.load(s + c), mean_v));
      squares = hn::MulAdd(v, v, squares);
    });
    const T rstd = 1 / std::sqrt(sum_of_lanes<T>(squares) / static_cast<T>(cols) + a.eps);
    a.rstd[r] = rstd;
    const auto rstd_v = hn::Set(d, rstd);
    T* y = a.y.row(r);
    if (kCentered && a.bias != nullptr) {
      vectors<T>(cols, [&](const auto& io, Index c) HWY_ATTR {
        const auto xhat = hn::Mul(hn::Sub(io.load(s + c), mean_v), rstd_v);
        io.store(hn::MulAdd(xhat, io.load(a.gain + c), io.load(a.bias + c)), y + c);
      });
    } else {
      vectors<T>(cols, [&](const auto& io, Index c) HWY_ATTR {
        const auto xhat = hn::Mul(hn::Sub(io.load(s + c), mean_v), rstd_v);
        io.store(hn::Mul(xhat, io.load(a.gain + c)), y + c);
      });
    }
  }
}

template <class T, bool kCentered>
void norm_backward_rows(const NormBackward<T>& a, T* partial, Index first, Index last) {
  const Tag<T> d;
  const Index cols = a.cols;
  T* dgain = partial;
  T* dbias = partial + cols;
  std::memset(partial, 0, static_cast<std::size_t>(kCentered ? 2 * cols : cols) * sizeof(T));
  for (Index r = first; r < last; ++r) {
    const T* dy = a.dy.row(r);
    const T* s = a.s.row(r);
    const auto rstd = hn::Set(d, a.rstd[r]);
    const auto mean = hn::Set(d, kCentered ? a.mean[r] : T{0});
    auto sum_g = hn::Zero(d), sum_gx = hn::Zero(d);
    vectors<T>(cols, [&](const auto& io, Index c) HWY_ATTR {
      const auto cotangent = io.load(dy + c);
      const auto xhat = hn::Mul(hn::Sub(io.load(s + c), mean), rstd);
      const auto g = hn::Mul(cotangent, io.load(a.gain + c));
      sum_gx = hn::MulAdd(g, xhat, sum_gx);
      io.store(hn::MulAdd(cotangent, xhat, io.load(dgain + c)), dgain + c);
      if constexpr (kCentered) {
        sum_g = hn::Add(sum_g, g);
        io.store(hn::Add(cotangent, io.load(dbias + c)), dbias + c);
      }
    });
    const T scale = T{1} / static_cast<T>(cols);
    const auto mean_g = hn::Set(d, sum_of_lanes<T>(sum_g) * scale);
    const auto mean_gx = hn::Set(d, sum_of_lanes<T>(sum_gx) * scale);
    T* dx = a.dx.row(r);
    const auto through_y = [&](const auto& io, Index c) HWY_ATTR {
      const auto xhat = hn::Mul(hn::Sub(io.load(s + c), mean), rstd);
      auto g = hn::Mul(io.load(dy + c), io.load(a.gain + c));
      if constexpr (kCentered) g = hn::Sub(g, mean_g);
      return hn::Mul(rstd, hn::NegMulAdd(xhat, mean_gx, g));
    };
    if (a.ds.data != nullptr) {
      const T* ds = a.ds.row(r);
      vectors<T>(cols, [&](const auto& io, Index c)
                           HWY_ATTR { io.store(hn::Add(io.load(ds + c), through_y(io, c)), dx + c); });
    } else {
      vectors<T>(cols, [&](const auto& io, Index c) HWY_ATTR { io.store(through_y(io, c), dx + c); });
    }
  }
}

template <class T, bool kCentered>
NormRows<T> norm_rows() {
  return {&norm_forward_rows<T, kCentered>, &norm_backward_rows<T, kCentered>,
          [](T* y, const T* x, Index count) HWY_ATTR { accumulate(y, x, count); }};
}

}  // namespace
}  // namespace unfurl::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
