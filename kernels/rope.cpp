#include "kernels/rope.h"

#include <cmath>

#include "kernels/blocks.h"
#include "kernels/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/rope.cpp"
#include "hwy/foreach_target.h"  // before any other Highway header
#include "kernels/simd-inl.h"

#ifndef UNFURL_KERNELS_ROPE_ONCE_
#define UNFURL_KERNELS_ROPE_ONCE_
namespace unfurl::kernels {
namespace {

/// One token: `angles` is its row of the table.
template <class T>
struct RopeToken {
  void (*turn)(T* y, const T* x, const T* angles, Index heads, Index head_dim, bool inverse);
};
using RopeTable = Functions<RopeToken<float>, RopeToken<double>>;

}  // namespace
}  // namespace unfurl::kernels
#endif  // UNFURL_KERNELS_ROPE_ONCE_

HWY_BEFORE_NAMESPACE();
namespace unfurl::kernels::HWY_NAMESPACE {
namespace {

template <class T>
void turn(T* y, const T* x, const T* angles, Index heads, Index head_dim, bool inverse) {
  const Index half = head_dim / 2;
  const T* sines = angles + half;
  const auto sign = hn::Set(Tag<T>(), inverse ? T{-1} : T{1});
  for (Index h = 0; h < heads; ++h) {
    const T* in = x + h * head_dim;
    T* out = y + h * head_dim;
    vectors<T>(half, [&](const auto& io, Index i) HWY_ATTR {
      const auto cosine = io.load(angles + i), sine = hn::Mul(sign, io.load(sines + i));
      const auto a = io.load(in + i), b = io.load(in + half + i);
      io.store(hn::NegMulAdd(b, sine, hn::Mul(a, cosine)), out + i);
      io.store(hn::MulAdd(a, sine, hn::Mul(b, cosine)), out + half + i);
    });
  }
}

}  // namespace

RopeTable rope_functions() { return {{&turn<float>}, {&turn<double>}}; }

}  // namespace unfurl::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace unfurl::kernels {

HWY_EXPORT(rope_functions);

template <class Queue, class A>
void rope_table(const Queue& queue, A* table, Index max_position, Index head_dim, double base) {
  const Index half = head_dim / 2;
  for_row_blocks(queue.pool(), max_position, 64, [&](Index first, Index last) {
    for (Index i = 0; i < half; ++i) {
      const double rate = std::pow(base, -2.0 * static_cast<double>(i) / static_cast<double>(head_dim));
      for (Index p = first; p < last; ++p) {
        const double angle = static_cast<double>(p) * rate;
        table[p * head_dim + i] = static_cast<A>(std::cos(angle));
        table[p * head_dim + half + i] = static_cast<A>(std::sin(angle));
      }
    }
  });
}

template <class Queue, class T>
void rope(const Queue& queue, Matrix<T> y, Matrix<const T> x, const std::int32_t* positions,
          const Accumulator<T>* table, Index tokens, Index heads, Index head_dim, bool inverse) {
  const RopeToken<T> token = HWY_DYNAMIC_DISPATCH(rope_functions)();
  for_row_blocks(queue.pool(), tokens, task_rows(heads * head_dim), [&](Index first, Index last) {
    for (Index t = first; t < last; ++t) {
      token.turn(y.row(t), x.row(t), table + positions[t] * head_dim, heads, head_dim, inverse);
    }
  });
}

#define UNFURL_INSTANTIATE(T)                                                                                         \
  template void rope_table(const CpuQueue&, T*, Index, Index, double);                                                \
  template void rope(const CpuQueue&, Matrix<T>, Matrix<const T>, const std::int32_t*, const T*, Index, Index, Index, \
                     bool);
UNFURL_INSTANTIATE(float)
UNFURL_INSTANTIATE(double)
#undef UNFURL_INSTANTIATE

}  // namespace unfurl::kernels
#endif  // HWY_ONCE
