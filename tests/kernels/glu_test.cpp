#include "kernels/glu.h"

#include <limits>

#include "tests/support/matrix.h"

namespace unfurl::tests {
namespace {

using kernels::Activation;
using kernels::CpuQueue;
using Doubles = std::vector<double>;

// In long double: the formulas cancel digits where x is negative.
long double act(Activation activation, long double x) {
  if (activation == Activation::silu) return x / (1 + std::exp(-x));
  return x / 2 * (1 + std::tanh(std::sqrt(2 / std::acos(-1.0L)) * (x + 0.044715L * x * x * x)));
}

long double act_derivative(Activation activation, long double x) {
  if (activation == Activation::silu) {
    const long double s = 1 / (1 + std::exp(-x));
    return s * (1 + x * (1 - s));
  }
  const long double root = std::sqrt(2 / std::acos(-1.0L)), t = std::tanh(root * (x + 0.044715L * x * x * x));
  return (1 + t) / 2 + x / 2 * (1 - t * t) * root * (1 + 3 * 0.044715L * x * x);
}

template <class T>
void check(MatrixShape shape, Index gap, Activation activation) {
  SCOPED_TRACE(text(shape) + " gap " + std::to_string(gap) + (activation == Activation::silu ? " silu" : " gelu"));
  const auto [rows, cols] = shape;
  const Index n = rows * cols;
  const std::vector<T> gate = normal<T>(n, 1, 3), up = normal<T>(n, 2), dy = normal<T>(n, 3);
  const auto results = on_pools([&](const CpuQueue& queue) {
    const StridedMatrix<T> gate_in(rows, cols, gap, gate), up_in(rows, cols, gap, up), dy_in(rows, cols, gap, dy);
    StridedMatrix<T> y(rows, cols, gap), dgate = y, dup = y, gelu = y, dx = y;
    kernels::glu_forward<CpuQueue, T>(queue, y.matrix(), gate_in, up_in, activation, rows, cols);
    kernels::glu_backward<CpuQueue, T>(queue, dgate.matrix(), dup.matrix(), dy_in, gate_in, up_in, activation, rows,
                                       cols);
    kernels::gelu_forward<CpuQueue, T>(queue, gelu.matrix(), gate_in, rows, cols);
    kernels::gelu_backward<CpuQueue, T>(queue, dx.matrix(), dy_in, gate_in, rows, cols);
    EXPECT_TRUE(y.intact() && dgate.intact() && dup.intact() && gelu.intact() && dx.intact());
    return std::vector<std::vector<T>>{y.values(), dgate.values(), dup.values(), gelu.values(), dx.values()};
  });
  Doubles want[5];
  for (std::size_t i = 0; i < gate.size(); ++i) {
    const long double g = gate[i], u = up[i], d = dy[i];
    want[0].push_back(static_cast<double>(act(activation, g) * u));
    want[1].push_back(static_cast<double>(d * u * act_derivative(activation, g)));
    want[2].push_back(static_cast<double>(d * act(activation, g)));
    want[3].push_back(static_cast<double>(act(Activation::gelu, g)));
    want[4].push_back(static_cast<double>(d * act_derivative(Activation::gelu, g)));
  }
  const char* const names[] = {"y", "dgate", "dup", "gelu", "dx"};
  for (std::size_t i = 0; i < 5; ++i) expect_close(results[i], want[i], tolerance<T>(4), names[i]);
}

TEST(GluKernels, EqualTheFormula) {
  on_targets([] {
    for (const MatrixShape& shape : odd_shapes()) {
      for (const Activation activation : {Activation::silu, Activation::gelu}) {
        check<float>(shape, 0, activation);
        check<double>(shape, 7, activation);
      }
    }
  });
}

// Huge inputs give x or 0 and a derivative of 1 or 0, never a NaN; a NaN stays one.
template <class T>
void check_extremes() {
  const T huge = sizeof(T) == 4 ? T(3e30) : T(1e200);
  const std::vector<T> x = {huge, -huge, T(200), T(-200), T(1e4), T(-1e4), T(0), std::numeric_limits<T>::quiet_NaN()};
  const std::vector<T> one(x.size(), T(1));
  const auto n = static_cast<Index>(x.size());
  kernels::ThreadPool pool(1);
  const CpuQueue queue(pool);
  for (const Activation activation : {Activation::silu, Activation::gelu}) {
    std::vector<T> y(x.size()), dgate(x.size()), dup(x.size());
    kernels::glu_forward<CpuQueue, T>(queue, {y.data(), n}, {x.data(), n}, {one.data(), n}, activation, 1, n);
    kernels::glu_backward<CpuQueue, T>(queue, {dgate.data(), n}, {dup.data(), n}, {one.data(), n}, {x.data(), n},
                                       {one.data(), n}, activation, 1, n);
    for (std::size_t i = 0; i + 1 < x.size(); ++i) {
      const double positive = x[i] > 0 ? static_cast<double>(x[i]) : 0;
      EXPECT_LE(std::abs(static_cast<double>(y[i]) - positive), 1e-7 * std::abs(static_cast<double>(x[i]))) << x[i];
      EXPECT_NEAR(static_cast<double>(dgate[i]), x[i] > 0 ? 1 : x[i] < 0 ? 0 : 0.5, 1e-7) << x[i];
    }
    EXPECT_NE(y.back(), y.back());
    EXPECT_NE(dgate.back(), dgate.back());
  }
}

TEST(GluKernels, StayFiniteForHugeInputs) {
  on_targets([] {
    check_extremes<float>();
    check_extremes<double>();
  });
}

}  // namespace
}  // namespace unfurl::tests
