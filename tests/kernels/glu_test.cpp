#include "kernels/glu.h"

#include <limits>

#include "tests/support/backends.h"

namespace unfurl::tests {
namespace {

using kernels::Activation;
using Doubles = std::vector<double>;

// In S; long double is exact: the formulas cancel digits where x is negative.
template <class S>
S act(Activation activation, S x) {
  if (activation == Activation::silu) return x / (1 + std::exp(-x));
  return x / 2 * (1 + std::tanh(std::sqrt(2 / std::acos(S(-1))) * (x + S(0.044715L) * x * x * x)));
}

template <class S>
S act_derivative(Activation activation, S x) {
  if (activation == Activation::silu) {
    const S s = 1 / (1 + std::exp(-x));
    return s * (1 + x * (1 - s));
  }
  const S root = std::sqrt(2 / std::acos(S(-1))), t = std::tanh(root * (x + S(0.044715L) * x * x * x));
  return (1 + t) / 2 + x / 2 * (1 - t * t) * root * (1 + 3 * S(0.044715L) * x * x);
}

/// y, dgate, dup, gelu, dx.
template <class S, class T>
Results reference(Activation activation, const Doubles& gate, const Doubles& up, const Doubles& dy) {
  Results out(5);
  const auto store = [&](std::size_t i, S value) { out[i].push_back(rounded<T>(static_cast<double>(value))); };
  for (std::size_t i = 0; i < gate.size(); ++i) {
    const S g = static_cast<S>(gate[i]), u = static_cast<S>(up[i]), d = static_cast<S>(dy[i]);
    store(0, act(activation, g) * u);
    store(1, d * u * act_derivative(activation, g));
    store(2, d * act(activation, g));
    store(3, act(Activation::gelu, g));
    store(4, d * act_derivative(Activation::gelu, g));
  }
  return out;
}

template <class Queue, class T>
void check(MatrixShape shape, Index gap, Activation activation) {
  SCOPED_TRACE(text(shape) + " gap " + std::to_string(gap) + (activation == Activation::silu ? " silu" : " gelu"));
  const Index rows = shape.rows, cols = shape.cols;
  const Index n = rows * cols;
  const std::vector<T> gate = normal<T>(n, 1, 3), up = normal<T>(n, 2), dy = normal<T>(n, 3);
  const Results results = on_queues<Queue>([&](const Queue& queue) {
    using Strided = StridedMatrix<T, Queue>;
    const Strided gate_in(queue, rows, cols, gap, gate), up_in(queue, rows, cols, gap, up);
    const Strided dy_in(queue, rows, cols, gap, dy);
    Strided y(queue, rows, cols, gap), dgate = y, dup = y, gelu = y, dx = y;
    kernels::glu_forward<Queue, T>(queue, y.matrix(), gate_in, up_in, activation, rows, cols);
    kernels::glu_backward<Queue, T>(queue, dgate.matrix(), dup.matrix(), dy_in, gate_in, up_in, activation, rows, cols);
    kernels::gelu_forward<Queue, T>(queue, gelu.matrix(), gate_in, rows, cols);
    kernels::gelu_backward<Queue, T>(queue, dx.matrix(), dy_in, gate_in, rows, cols);
    EXPECT_TRUE(y.intact() && dgate.intact() && dup.intact() && gelu.intact() && dx.intact());
    return Results{doubles(y.values()), doubles(dgate.values()), doubles(dup.values()), doubles(gelu.values()),
                   doubles(dx.values())};
  });
  const Results exact = reference<long double, double>(activation, doubles(gate), doubles(up), doubles(dy));
  const Results plain = reference<float, T>(activation, doubles(gate), doubles(up), doubles(dy));
  const char* const names[] = {"y", "dgate", "dup", "gelu", "dx"};
  for (std::size_t i = 0; i < 5; ++i) {
    expect_matches<T>(results[i], exact[i], plain[i], tolerance<double>(4), names[i]);
  }
}

TEST(GluKernels, EqualTheFormula) {
  on_backends([]<class Queue, class T>() {
    for (const Activation activation : {Activation::silu, Activation::gelu}) {
      for (const MatrixShape& shape : odd_shapes()) {
        check<Queue, T>(shape, sizeof(T) == 8 || shape.cols == 65 ? 7 : 0, activation);
      }
      check<Queue, T>({13, 264}, 8, activation);
    }
  });
}

// Huge inputs give x or 0 and a derivative of 1 or 0, never a NaN; a NaN stays one.
template <class Queue, class T>
void check_extremes() {
  const double huge = sizeof(T) == 8 ? 1e200 : 3e30;
  const Doubles values = {huge, -huge, 200, -200, 1e4, -1e4, 0, std::numeric_limits<double>::quiet_NaN()};
  std::vector<T> x, one;
  for (const double v : values) {
    if constexpr (std::is_same_v<T, bf16>) {
      x.push_back(to_bf16(static_cast<float>(v))), one.push_back(to_bf16(1));
    } else {
      x.push_back(static_cast<T>(v)), one.push_back(1);
    }
  }
  const auto n = static_cast<Index>(x.size());
  for (const Activation activation : {Activation::silu, Activation::gelu}) {
    const Results results = on_queues<Queue>([&](const Queue& queue) {
      const Guarded<T, Queue> in(queue, x), ones(queue, one);
      Guarded<T, Queue> y(queue, n), dgate(queue, n), dup(queue, n);
      kernels::glu_forward<Queue, T>(queue, {y.data(), n}, {in.data(), n}, {ones.data(), n}, activation, 1, n);
      kernels::glu_backward<Queue, T>(queue, {dgate.data(), n}, {dup.data(), n}, {ones.data(), n}, {in.data(), n},
                                      {ones.data(), n}, activation, 1, n);
      return Results{doubles(y.values()), doubles(dgate.values())};
    });
    for (std::size_t i = 0; i + 1 < x.size(); ++i) {
      const double v = doubles(x)[i], positive = v > 0 ? v : 0;
      EXPECT_LE(std::abs(results[0][i] - positive), 1e-7 * std::abs(v)) << v;
      EXPECT_NEAR(results[1][i], v > 0 ? 1 : v < 0 ? 0 : 0.5, 1e-7) << v;
    }
    EXPECT_NE(results[0].back(), results[0].back());
    EXPECT_NE(results[1].back(), results[1].back());
  }
}

TEST(GluKernels, StayFiniteForHugeInputs) {
  on_backends([]<class Queue, class T>() { check_extremes<Queue, T>(); });
}

}  // namespace
}  // namespace unfurl::tests
