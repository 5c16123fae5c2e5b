// Gradients of a function of f64 tensors against central differences, under random cotangents.
#pragma once
#include <gtest/gtest.h>

#include <functional>
#include <vector>

#include "core/autograd.h"
#include "tests/support/random.h"

namespace unfurl::tests {

/// Any operations on the leaves; a pure function of their values.
using TensorFunction = std::function<std::vector<Tensor>(const std::vector<Tensor>&)>;

/// A f64 tensor of normal numbers.
inline Tensor normal_tensor(Shape shape, std::uint64_t seed, double scale = 1) {
  return Tensor::from(normal<double>(shape.numel(), seed, scale), shape);
}

/// The gradients of sum_i <cotangents[i], function(leaves)[i]> by the tape, one for each leaf. They are accumulated
/// onto numbers that are not zero, which are taken off again. An undefined cotangent leaves that output out.
inline std::vector<std::vector<double>> tape_gradients(const TensorFunction& function,
                                                       const std::vector<Tensor>& leaves,
                                                       const std::vector<Tensor>& cotangents) {
  constexpr double kBefore = 0.25;
  std::vector<Tensor> attached, gradients;
  for (const Tensor& leaf : leaves) {
    attached.push_back(leaf.detach());
    gradients.push_back(
        Tensor::from(std::vector<double>(static_cast<std::size_t>(leaf.numel()), kBefore), leaf.shape()));
    attached.back().attach_gradient(gradients.back());
  }
  Tape tape;
  std::vector<std::pair<Tensor, Tensor>> roots;
  {
    const TapeScope scope(tape);
    const std::vector<Tensor> outputs = function(attached);
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      if (cotangents[i].defined()) roots.emplace_back(outputs[i], cotangents[i]);
    }
  }
  tape.backward(roots);
  std::vector<std::vector<double>> out;
  for (const Tensor& gradient : gradients) {
    out.push_back(gradient.values<double>());
    for (double& value : out.back()) value -= kBefore;
  }
  return out;
}

/// Random cotangents for the outputs of function(leaves).
inline std::vector<Tensor> random_cotangents(const TensorFunction& function, const std::vector<Tensor>& leaves,
                                             std::uint64_t seed = 77) {
  std::vector<Tensor> out;
  for (const Tensor& output : function(leaves)) out.push_back(normal_tensor(output.shape(), seed + out.size()));
  return out;
}

struct GradientCheck {
  double step = 1e-5;
  double tolerance = 1e-6;  // of |tape - differences| / |differences|, 2-norms over the elements of a leaf
  Index samples = 40;       // elements of a leaf that are moved one by one, if it has more; all are moved together too
  std::uint64_t seed = 77;
};

/// Expects the tape's gradient of every leaf to be that of central differences.
inline void check_gradients(const TensorFunction& function, const std::vector<Tensor>& leaves,
                            const GradientCheck& check = {}) {
  const std::vector<Tensor> cotangents = random_cotangents(function, leaves, check.seed);
  const auto gradients = tape_gradients(function, leaves, cotangents);
  // The slope of sum_i <cotangents[i], outputs[i]> where leaf l moves by `direction`. Outputs are subtracted one by
  // one, not their sums, which keeps digits.
  const auto slope = [&](std::size_t l, const std::vector<double>& direction) {
    std::vector<std::vector<Tensor>> ends;
    for (const double sign : {1.0, -1.0}) {
      std::vector<Tensor> moved = leaves;
      std::vector<double> values = leaves[l].values<double>();
      for (std::size_t i = 0; i < values.size(); ++i) values[i] += sign * check.step * direction[i];
      moved[l] = Tensor::from(values, leaves[l].shape());
      ends.push_back(function(moved));
    }
    double sum = 0;
    for (std::size_t o = 0; o < cotangents.size(); ++o) {
      const auto plus = ends[0][o].values<double>(), minus = ends[1][o].values<double>();
      const auto cotangent = cotangents[o].values<double>();
      for (std::size_t i = 0; i < plus.size(); ++i) sum += cotangent[i] * (plus[i] - minus[i]);
    }
    return sum / (2 * check.step);
  };
  for (std::size_t l = 0; l < leaves.size(); ++l) {
    const Index count = leaves[l].numel();
    if (count == 0) continue;
    double error = 0, norm = 0;
    const auto compare = [&](const std::vector<double>& direction) {
      double by_tape = 0;
      for (std::size_t i = 0; i < direction.size(); ++i) by_tape += direction[i] * gradients[l][i];
      const double by_differences = slope(l, direction);
      error += (by_tape - by_differences) * (by_tape - by_differences);
      norm += by_differences * by_differences;
    };
    for (Index s = 0; s < std::min(count, check.samples); ++s) {
      const Index i = count <= check.samples
                          ? s
                          : integers(s + 1, static_cast<std::int32_t>(count), check.seed)[static_cast<std::size_t>(s)];
      std::vector<double> direction(static_cast<std::size_t>(count), 0.0);
      direction[static_cast<std::size_t>(i)] = 1;
      compare(direction);
    }
    compare(normal<double>(count, check.seed + 1));
    EXPECT_LE(std::sqrt(error), check.tolerance * std::sqrt(norm) + 1e-12)
        << "leaf " << l << " " << leaves[l].shape().text() << ", gradient norm " << std::sqrt(norm);
  }
}

/// The same function of activations: the tape itself keeps the gradients of what it is given.
inline TensorFunction of_activations(TensorFunction function) {
  return [function = std::move(function)](const std::vector<Tensor>& inputs) { return checkpoint(function, inputs); };
}

/// Expects two functions to have the same values and, under the same cotangents, the same gradients, within `tolerance`
/// of the largest.
inline void expect_same_function(const TensorFunction& a, const TensorFunction& b, const std::vector<Tensor>& leaves,
                                 double tolerance = 1e-13) {
  const auto expect_near = [&](const std::vector<double>& x, const std::vector<double>& y, const char* what,
                               std::size_t number) {
    ASSERT_EQ(x.size(), y.size()) << what << " " << number;
    double largest = 0, difference = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
      largest = std::max(largest, std::abs(y[i]));
      difference = std::max(difference, std::abs(x[i] - y[i]));
    }
    EXPECT_TRUE(difference <= tolerance * largest) << what << " " << number << ": " << difference << " of " << largest;
  };
  const std::vector<Tensor> from_a = a(leaves), from_b = b(leaves), cotangents = random_cotangents(b, leaves);
  ASSERT_EQ(from_a.size(), from_b.size());
  for (std::size_t i = 0; i < from_a.size(); ++i) {
    expect_near(from_a[i].values<double>(), from_b[i].values<double>(), "output", i);
  }
  const auto by_a = tape_gradients(a, leaves, cotangents), by_b = tape_gradients(b, leaves, cotangents);
  for (std::size_t i = 0; i < by_a.size(); ++i) expect_near(by_a[i], by_b[i], "gradient of leaf", i);
}

}  // namespace unfurl::tests
