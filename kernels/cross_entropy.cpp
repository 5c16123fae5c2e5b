#include "kernels/cross_entropy.h"

#include <algorithm>
#include <cmath>
#include <limits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cross_entropy.cpp"
#include "hwy/foreach_target.h"
// Highway's order: foreach_target.h before highway.h.
#include "hwy/contrib/math/math-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace unfurl::kernels::HWY_NAMESPACE {
namespace {
namespace hn = hwy::HWY_NAMESPACE;

/// Calls function on x vector by vector and, where kStore, puts the result back. The last vector is filled up with
/// -infinity.
template <bool kStore, class D, class T, class Function>
HWY_INLINE void for_each_vector(D d, T* x, Index cols, const Function& function) {
  const auto lanes = static_cast<Index>(hn::Lanes(d));
  Index i = 0;
  for (; i + lanes <= cols; i += lanes) {
    const auto y = function(hn::LoadU(d, x + i));
    if (kStore) hn::StoreU(y, d, x + i);
  }
  if (i == cols) return;
  HWY_ALIGN T rest[hn::MaxLanes(d)];
  std::fill(rest, rest + lanes, -std::numeric_limits<T>::infinity());
  std::copy(x + i, x + cols, rest);
  const auto y = function(hn::Load(d, rest));
  hn::Store(y, d, rest);
  if (kStore) std::copy(rest, rest + (cols - i), x + i);
}

/// Three passes over a row that stays in the second-level cache: the maximum; the exponentials and their sum; the
/// scale. A NaN, an infinite logit or a row of nothing but -infinity makes the loss and the whole gradient NaN.
template <bool kGradient, class T>
T row(T* x, std::int32_t target, T weight, Index cols) {
  const hn::ScalableTag<T> d;
  if (weight == 0) {
    if (kGradient) std::fill(x, x + cols, T(0));
    return 0;
  }
  auto greatest = hn::Set(d, -std::numeric_limits<T>::infinity());
  for_each_vector<false>(d, x, cols, [&](auto v) HWY_ATTR {
    greatest = hn::Max(v, greatest);
    return v;
  });
  const T top = hn::GetLane(hn::MaxOfLanes(d, greatest));
  const double margin = static_cast<double>(top) - static_cast<double>(x[target]);

  const auto shift = hn::Set(d, top);
  auto sums = hn::Zero(d);
  for_each_vector<kGradient>(d, x, cols, [&](auto v) HWY_ATTR {
    const auto below = hn::Sub(v, shift);
    // Exp makes 0 of a NaN.
    const auto power = hn::IfThenElse(hn::Eq(below, below), hn::Exp(d, below), below);
    sums = hn::Add(sums, power);
    return power;
  });
  const T sum = hn::GetLane(hn::SumOfLanes(d, sums));
  if (kGradient) {
    const auto factor = hn::Set(d, weight / sum);
    for_each_vector<true>(d, x, cols, [&](auto v) HWY_ATTR { return hn::Mul(v, factor); });
    x[target] -= weight;
  }
  return static_cast<T>(static_cast<double>(weight) * (std::log(static_cast<double>(sum)) + margin));
}

template <class T>
void row_range(T* loss, Matrix<T> logits, const std::int32_t* targets, const T* weight, bool gradient, Index first,
               Index last, Index cols) {
  for (Index r = first; r < last; ++r) {
    loss[r] = gradient ? row<true>(logits.row(r), targets[r], weight[r], cols)
                       : row<false>(logits.row(r), targets[r], weight[r], cols);
  }
}

void rows_f32(float* loss, Matrix<float> logits, const std::int32_t* targets, const float* weight, bool gradient,
              Index first, Index last, Index cols) {
  row_range(loss, logits, targets, weight, gradient, first, last, cols);
}
void rows_f64(double* loss, Matrix<double> logits, const std::int32_t* targets, const double* weight, bool gradient,
              Index first, Index last, Index cols) {
  row_range(loss, logits, targets, weight, gradient, first, last, cols);
}

}  // namespace
}  // namespace unfurl::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace unfurl::kernels {
namespace {
HWY_EXPORT(rows_f32);
HWY_EXPORT(rows_f64);

auto kernel_for(float) { return HWY_DYNAMIC_DISPATCH(rows_f32); }
auto kernel_for(double) { return HWY_DYNAMIC_DISPATCH(rows_f64); }
}  // namespace

template <class Queue, class T>
void cross_entropy(const Queue& queue, Accumulator<T>* loss, Matrix<T> logits, const std::int32_t* targets,
                   const Accumulator<T>* weight, bool gradient, Index rows, Index cols) {
  if (rows <= 0) return;
  const Index step = std::max<Index>(1, 16384 / std::max<Index>(cols, 1));
  const auto kernel = kernel_for(T{});
  queue.pool().parallel_for((rows + step - 1) / step, [&](Index i) {
    kernel(loss, logits, targets, weight, gradient, i * step, std::min((i + 1) * step, rows), cols);
  });
}

template void cross_entropy(const CpuQueue&, float*, Matrix<float>, const std::int32_t*, const float*, bool, Index,
                            Index);
template void cross_entropy(const CpuQueue&, double*, Matrix<double>, const std::int32_t*, const double*, bool, Index,
                            Index);

}  // namespace unfurl::kernels
#endif
