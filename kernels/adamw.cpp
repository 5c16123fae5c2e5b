#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/adamw.cpp"
#include "hwy/foreach_target.h"
// Highway's order: foreach_target.h before highway.h.
#include "hwy/highway.h"

#ifndef UNFURL_KERNELS_ADAMW_ONCE
#define UNFURL_KERNELS_ADAMW_ONCE
#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/adamw.h"

namespace unfurl::kernels {
namespace {

constexpr Index kBlock = 65536;

/// The coefficients of one step, in the element's type.
template <class T>
struct Step {
  T gradient_scale, beta1, one_minus_beta1, beta2, one_minus_beta2;
  T rate;       // learning_rate / (1 - beta1^step)
  T deviation;  // 1 / sqrt(1 - beta2^step)
  T eps;
  T decay;  // learning_rate * weight_decay
};

}  // namespace
}  // namespace unfurl::kernels
#endif

HWY_BEFORE_NAMESPACE();
namespace unfurl::kernels::HWY_NAMESPACE {
namespace {
namespace hn = hwy::HWY_NAMESPACE;

template <class T>
void update(T* weight, T* m, T* v, T* gradient, const Step<T>& s, bool clear, Index count) {
  const hn::ScalableTag<T> d;
  const auto lanes = static_cast<Index>(hn::Lanes(d));
  const auto gradient_scale = hn::Set(d, s.gradient_scale), eps = hn::Set(d, s.eps), decay = hn::Set(d, s.decay);
  const auto beta1 = hn::Set(d, s.beta1), one_minus_beta1 = hn::Set(d, s.one_minus_beta1);
  const auto beta2 = hn::Set(d, s.beta2), one_minus_beta2 = hn::Set(d, s.one_minus_beta2);
  const auto rate = hn::Set(d, s.rate), deviation = hn::Set(d, s.deviation);
  const auto one_vector = [&](T* w_at, T* m_at, T* v_at, T* g_at) HWY_ATTR {
    const auto g = hn::Mul(hn::LoadU(d, g_at), gradient_scale);
    const auto m_new = hn::MulAdd(beta1, hn::LoadU(d, m_at), hn::Mul(one_minus_beta1, g));
    const auto v_new = hn::MulAdd(beta2, hn::LoadU(d, v_at), hn::Mul(one_minus_beta2, hn::Mul(g, g)));
    const auto direction = hn::Div(m_new, hn::MulAdd(hn::Sqrt(v_new), deviation, eps));
    const auto w = hn::LoadU(d, w_at);
    // Decay is subtracted, not folded into a factor 1 - decay: that factor would round away most of a small decay.
    hn::StoreU(hn::NegMulAdd(rate, direction, hn::NegMulAdd(decay, w, w)), d, w_at);
    hn::StoreU(m_new, d, m_at);
    hn::StoreU(v_new, d, v_at);
    if (clear) hn::StoreU(hn::Zero(d), d, g_at);
  };
  Index i = 0;
  for (; i + lanes <= count; i += lanes) one_vector(weight + i, m + i, v + i, gradient + i);
  if (i == count) return;
  HWY_ALIGN T tail[4][hn::MaxLanes(d)] = {};
  const std::size_t bytes = static_cast<std::size_t>(count - i) * sizeof(T);
  T* const arrays[4] = {weight + i, m + i, v + i, gradient + i};
  for (int a = 0; a < 4; ++a) std::memcpy(tail[a], arrays[a], bytes);
  one_vector(tail[0], tail[1], tail[2], tail[3]);
  for (int a = 0; a < 4; ++a) std::memcpy(arrays[a], tail[a], bytes);
}

template <class D64>
auto load_as_double(D64 d, const float* x) {
  return hn::PromoteTo(d, hn::LoadU(hn::Rebind<float, D64>(), x));
}
template <class D64>
auto load_as_double(D64 d, const double* x) {
  return hn::LoadU(d, x);
}

template <class T>
double squares(const T* x, Index count) {
  const hn::ScalableTag<double> d;
  const auto lanes = static_cast<Index>(hn::Lanes(d));
  auto sum0 = hn::Zero(d), sum1 = sum0, sum2 = sum0, sum3 = sum0;
  Index i = 0;
  for (; i + 4 * lanes <= count; i += 4 * lanes) {
    const auto x0 = load_as_double(d, x + i), x1 = load_as_double(d, x + i + lanes);
    const auto x2 = load_as_double(d, x + i + 2 * lanes), x3 = load_as_double(d, x + i + 3 * lanes);
    sum0 = hn::MulAdd(x0, x0, sum0);
    sum1 = hn::MulAdd(x1, x1, sum1);
    sum2 = hn::MulAdd(x2, x2, sum2);
    sum3 = hn::MulAdd(x3, x3, sum3);
  }
  double sum = hn::GetLane(hn::SumOfLanes(d, hn::Add(hn::Add(sum0, sum1), hn::Add(sum2, sum3))));
  for (; i < count; ++i) sum += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  return sum;
}

// Dispatch is over plain functions.
void update_float(float* weight, float* m, float* v, float* gradient, const Step<float>& step, bool clear,
                  Index count) {
  update(weight, m, v, gradient, step, clear, count);
}
void update_double(double* weight, double* m, double* v, double* gradient, const Step<double>& step, bool clear,
                   Index count) {
  update(weight, m, v, gradient, step, clear, count);
}
double squares_float(const float* x, Index count) { return squares(x, count); }
double squares_double(const double* x, Index count) { return squares(x, count); }

}  // namespace
}  // namespace unfurl::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace unfurl::kernels {
namespace {

HWY_EXPORT(update_float);
HWY_EXPORT(update_double);
HWY_EXPORT(squares_float);
HWY_EXPORT(squares_double);

Index blocks_of(Index count) { return (count + kBlock - 1) / kBlock; }

}  // namespace

template <class Queue, class T>
void adamw(const Queue& queue, T* weight, T* m, T* v, T* gradient, const AdamW& config, bool clear, Index count) {
  const double steps = static_cast<double>(config.step);
  const Step<T> step{
      .gradient_scale = static_cast<T>(config.gradient_scale),
      .beta1 = static_cast<T>(config.beta1),
      .one_minus_beta1 = static_cast<T>(1 - config.beta1),
      .beta2 = static_cast<T>(config.beta2),
      .one_minus_beta2 = static_cast<T>(1 - config.beta2),
      .rate = static_cast<T>(config.learning_rate / (1 - std::pow(config.beta1, steps))),
      .deviation = static_cast<T>(1 / std::sqrt(1 - std::pow(config.beta2, steps))),
      .eps = static_cast<T>(config.eps),
      .decay = static_cast<T>(config.learning_rate * config.weight_decay),
  };
  queue.pool().parallel_for(blocks_of(count), [&](Index block) {
    const Index first = block * kBlock, size = std::min(kBlock, count - first);
    if constexpr (std::is_same_v<T, float>) {
      HWY_DYNAMIC_DISPATCH(update_float)
      (weight + first, m + first, v + first, gradient + first, step, clear, size);
    } else {
      HWY_DYNAMIC_DISPATCH(update_double)
      (weight + first, m + first, v + first, gradient + first, step, clear, size);
    }
  });
}

template <class Queue, class T>
void sum_squares_of_blocks(const Queue& queue, double* partials, const T* x, Index count) {
  queue.pool().parallel_for(blocks_of(count), [&](Index block) {
    const Index first = block * kBlock, size = std::min(kBlock, count - first);
    if constexpr (std::is_same_v<T, float>) {
      partials[block] = HWY_DYNAMIC_DISPATCH(squares_float)(x + first, size);
    } else {
      partials[block] = HWY_DYNAMIC_DISPATCH(squares_double)(x + first, size);
    }
  });
}

template <class Queue, class T>
double sum_of_squares(const Queue& queue, const T* x, Index count) {
  const Index blocks = blocks_of(count);
  auto* partial = static_cast<double*>(queue.scratch(static_cast<std::size_t>(blocks) * sizeof(double)));
  sum_squares_of_blocks(queue, partial, x, count);
  double sum = 0;
  for (Index block = 0; block < blocks; ++block) sum += partial[block];
  return sum;
}

template void adamw(const CpuQueue&, float*, float*, float*, float*, const AdamW&, bool, Index);
template void adamw(const CpuQueue&, double*, double*, double*, double*, const AdamW&, bool, Index);
template void sum_squares_of_blocks(const CpuQueue&, double*, const float*, Index);
template void sum_squares_of_blocks(const CpuQueue&, double*, const double*, Index);
template double sum_of_squares(const CpuQueue&, const float*, Index);
template double sum_of_squares(const CpuQueue&, const double*, Index);

}  // namespace unfurl::kernels
#endif  // HWY_ONCE
