#include "kernels/glu.h"

#include <type_traits>

#include "kernels/blocks.h"
#include "kernels/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/glu.cpp"
#include "hwy/foreach_target.h"  // before any other Highway header

#include "hwy/contrib/math/math-inl.h"
#include "kernels/simd-inl.h"

#ifndef UNFURL_KERNELS_GLU_ONCE_
#define UNFURL_KERNELS_GLU_ONCE_
namespace unfurl::kernels {
namespace {

/// One row each. Null `up` (and `dup`): the activation alone.
template <class T>
struct GluRow {
  void (*forward)(T* y, const T* gate, const T* up, Index cols);
  void (*backward)(T* dgate, T* dup, const T* dy, const T* gate, const T* up, Index cols);
};
template <class T, Activation kActivation>
struct GluRowOf : GluRow<T> {};
using GluTable = Functions<GluRowOf<float, Activation::silu>, GluRowOf<float, Activation::gelu>,
                           GluRowOf<double, Activation::silu>, GluRowOf<double, Activation::gelu>>;

}  // namespace
}  // namespace unfurl::kernels
#endif  // UNFURL_KERNELS_GLU_ONCE_

HWY_BEFORE_NAMESPACE();
namespace unfurl::kernels::HWY_NAMESPACE {
namespace {

// Both activations are x sigmoid(z(x)): silu with z = x, gelu with z = 2 sqrt(2/pi) (x + 0.044715 x^3), since
// (1 + tanh(u)) / 2 = sigmoid(2 u).
constexpr double kGelu1 = 1.5957691216057308, kGelu3 = kGelu1 * 0.044715;

/// 1 / (1 + exp(-z)); -z is held where exp is finite.
template <class T>
HWY_INLINE Vec<T> sigmoid(Vec<T> z) {
  const Tag<T> d;
  const auto one = hn::Set(d, T{1});
  const auto minus_z = hn::Min(hn::Set(d, std::is_same_v<T, float> ? T{88} : T{700}), hn::Neg(z));
  return hn::Div(one, hn::Add(one, hn::Exp(d, minus_z)));
}

template <class T, Activation kActivation>
HWY_INLINE Vec<T> gate_of(Vec<T> x) {
  if constexpr (kActivation == Activation::silu) return sigmoid<T>(x);
  const Tag<T> d;
  const auto slope = hn::MulAdd(hn::Mul(x, x), hn::Set(d, static_cast<T>(kGelu3)), hn::Set(d, static_cast<T>(kGelu1)));
  return sigmoid<T>(hn::Mul(x, slope));
}

/// d(x sigmoid(z)) / dx = sigmoid(z) + x z' sigmoid(z) (1 - sigmoid(z)).
template <class T, Activation kActivation>
HWY_INLINE Vec<T> derivative(Vec<T> x, Vec<T> gate) {
  const Tag<T> d;
  auto xz = x;
  if constexpr (kActivation == Activation::gelu) {
    const auto slope =
        hn::MulAdd(hn::Mul(x, x), hn::Set(d, static_cast<T>(3 * kGelu3)), hn::Set(d, static_cast<T>(kGelu1)));
    xz = hn::Mul(x, slope);
  }
  // Held finite, so that it gives 0 where the gate is 1; a NaN passes.
  const auto limit = hn::Set(d, T(1e30));
  xz = hn::IfThenElse(hn::Gt(hn::Abs(xz), limit), hn::CopySign(limit, xz), xz);
  return hn::MulAdd(xz, hn::Mul(gate, hn::Sub(hn::Set(d, T{1}), gate)), gate);
}

template <class T, Activation kActivation>
void forward_row(T* y, const T* gate, const T* up, Index cols) {
  vectors<T>(cols, [=](const auto& io, Index c) HWY_ATTR {
    const auto x = io.load(gate + c);
    auto value = hn::Mul(x, gate_of<T, kActivation>(x));
    if (up != nullptr) value = hn::Mul(value, io.load(up + c));
    io.store(value, y + c);
  });
}

template <class T, Activation kActivation>
void backward_row(T* dgate, T* dup, const T* dy, const T* gate, const T* up, Index cols) {
  vectors<T>(cols, [=](const auto& io, Index c) HWY_ATTR {
    const auto x = io.load(gate + c);
    const auto g = gate_of<T, kActivation>(x);
    auto cotangent = io.load(dy + c);
    auto dx = hn::Mul(cotangent, derivative<T, kActivation>(x, g));
    if (up != nullptr) {
      dx = hn::Mul(dx, io.load(up + c));
      io.store(hn::Mul(cotangent, hn::Mul(x, g)), dup + c);
    }
    io.store(dx, dgate + c);
  });
}

template <class T, Activation kActivation>
GluRowOf<T, kActivation> glu_row() {
  return {{&forward_row<T, kActivation>, &backward_row<T, kActivation>}};
}

}  // namespace

GluTable glu_table() {
  return {glu_row<float, Activation::silu>(), glu_row<float, Activation::gelu>(), glu_row<double, Activation::silu>(),
          glu_row<double, Activation::gelu>()};
}

}  // namespace unfurl::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace unfurl::kernels {
namespace {

HWY_EXPORT(glu_table);

template <class T>
GluRow<T> row_of(Activation activation) {
  const GluTable table = HWY_DYNAMIC_DISPATCH(glu_table)();
  if (activation == Activation::silu) return static_cast<const GluRowOf<T, Activation::silu>&>(table);
  return static_cast<const GluRowOf<T, Activation::gelu>&>(table);
}

template <class T>
void forward(const CpuQueue& queue, Matrix<T> y, Matrix<const T> gate, Matrix<const T> up, Activation activation,
             Index rows, Index cols) {
  const GluRow<T> row = row_of<T>(activation);
  for_row_blocks(queue.pool(), rows, task_rows(cols), [&](Index first, Index last) {
    for (Index r = first; r < last; ++r) {
      row.forward(y.row(r), gate.row(r), up.data != nullptr ? up.row(r) : nullptr, cols);
    }
  });
}

template <class T>
void backward(const CpuQueue& queue, Matrix<T> dgate, Matrix<T> dup, Matrix<const T> dy, Matrix<const T> gate,
              Matrix<const T> up, Activation activation, Index rows, Index cols) {
  const GluRow<T> row = row_of<T>(activation);
  for_row_blocks(queue.pool(), rows, task_rows(cols), [&](Index first, Index last) {
    for (Index r = first; r < last; ++r) {
      const bool gated = up.data != nullptr;
      row.backward(dgate.row(r), gated ? dup.row(r) : nullptr, dy.row(r), gate.row(r), gated ? up.row(r) : nullptr,
                   cols);
    }
  });
}

}  // namespace

template <class Queue, class T>
void glu_forward(const Queue& queue, Matrix<T> y, Matrix<const T> gate, Matrix<const T> up, Activation activation,
                 Index rows, Index cols) {
  forward(queue, y, gate, up, activation, rows, cols);
}

template <class Queue, class T>
void glu_backward(const Queue& queue, Matrix<T> dgate, Matrix<T> dup, Matrix<const T> dy, Matrix<const T> gate,
                  Matrix<const T> up, Activation activation, Index rows, Index cols) {
  backward(queue, dgate, dup, dy, gate, up, activation, rows, cols);
}

template <class Queue, class T>
void gelu_forward(const Queue& queue, Matrix<T> y, Matrix<const T> x, Index rows, Index cols) {
  forward<T>(queue, y, x, {}, Activation::gelu, rows, cols);
}

template <class Queue, class T>
void gelu_backward(const Queue& queue, Matrix<T> dx, Matrix<const T> dy, Matrix<const T> x, Index rows, Index cols) {
  backward<T>(queue, dx, {}, dy, x, {}, Activation::gelu, rows, cols);
}

#define UNFURL_INSTANTIATE(T)                                                                                          \
  template void glu_forward(const CpuQueue&, Matrix<T>, Matrix<const T>, Matrix<const T>, Activation, Index, Index);   \
  template void glu_backward(const CpuQueue&, Matrix<T>, Matrix<T>, Matrix<const T>, Matrix<const T>, Matrix<const T>, \
                             Activation, Index, Index);                                                                \
  template void gelu_forward(const CpuQueue&, Matrix<T>, Matrix<const T>, Index, Index);                               \
  template void gelu_backward(const CpuQueue&, Matrix<T>, Matrix<const T>, Matrix<const T>, Index, Index);
UNFURL_INSTANTIATE(float)
UNFURL_INSTANTIATE(double)
#undef UNFURL_INSTANTIATE

}  // namespace unfurl::kernels
#endif  // HWY_ONCE
