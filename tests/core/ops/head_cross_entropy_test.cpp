#include "core/ops/head_cross_entropy.h"

#include <gtest/gtest.h>

#include <cmath>

#include "core/error.h"
#include "core/ops/linear.h"
#include "tests/support/gradient_check.h"

namespace unfurl::tests {
namespace {

void check(const std::vector<Tensor>& inputs, const TensorFunction& function) {
  check_gradients(function, inputs);
  check_gradients(of_activations(function), inputs);
}

struct Case {
  Index rows, width, vocab, chunk;
};
const std::vector<Case> kCases = {{1, 1, 1, 256},  {1, 5, 31, 1},     {3, 7, 33, 256}, {33, 5, 65, 8},
                                  {31, 8, 17, 31}, {65, 33, 129, 64}, {20, 4, 7, 3}};

std::string name(const Case& c) {
  return fmt::format("{} rows, width {}, vocabulary {}, chunks of {}", c.rows, c.width, c.vocab, c.chunk);
}

struct Input {
  Tensor hidden, weight, targets, weights;
};
Input input(const Case& c) {
  auto weights = normal<double>(c.rows, 4);
  if (c.rows > 2) weights[1] = 0;
  return {normal_tensor({c.rows, c.width}, 1), normal_tensor({c.vocab, c.width}, 2),
          Tensor::from(integers(c.rows, static_cast<std::int32_t>(c.vocab), 3), {c.rows}),
          Tensor::from(weights, {c.rows})};
}

/// The elementary form: all logits at once; losses, and the gradients of their sum times `cotangent`.
struct Elementary {
  std::vector<double> losses, dhidden, dweight;
};
Elementary elementary(const Input& in, double cotangent) {
  Tensor hidden = in.hidden.detach(), weight = in.weight.detach();
  hidden.attach_gradient(Tensor::zeros(hidden.shape(), DType::f64));
  weight.attach_gradient(Tensor::zeros(weight.shape(), DType::f64));
  Tape tape;
  Tensor logits;
  {
    const TapeScope scope(tape);
    logits = linear(hidden, weight);
  }
  auto values = logits.values<double>();
  const auto targets = in.targets.values<std::int32_t>();
  const auto weights = in.weights.values<double>();
  const auto vocab = static_cast<std::size_t>(logits.cols());
  Elementary out;
  for (std::size_t r = 0; r < targets.size(); ++r) {
    double* row = values.data() + r * vocab;
    const auto target = static_cast<std::size_t>(targets[r]);
    double sum = 0;
    for (std::size_t c = 0; c < vocab; ++c) sum += std::exp(row[c]);
    out.losses.push_back(weights[r] * (std::log(sum) - row[target]));
    for (std::size_t c = 0; c < vocab; ++c) {
      row[c] = cotangent * weights[r] * (std::exp(row[c]) / sum - (c == target ? 1 : 0));
    }
  }
  tape.backward(logits, Tensor::from(values, logits.shape()));
  out.dhidden = hidden.gradient().values<double>();
  out.dweight = weight.gradient().values<double>();
  return out;
}

void expect_near(const std::vector<double>& got, const std::vector<double>& want, double tolerance) {
  ASSERT_EQ(got.size(), want.size());
  for (std::size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], want[i], tolerance * (1 + std::abs(want[i]))) << i;
}

TEST(HeadCrossEntropy, EqualsTheElementaryForm) {
  for (const Case& c : kCases) {
    SCOPED_TRACE(name(c));
    const Input in = input(c);
    const double cotangent = 0.7;
    const Elementary want = elementary(in, cotangent);
    Tensor hidden = in.hidden.detach(), weight = in.weight.detach(), losses;
    hidden.attach_gradient(Tensor::zeros(hidden.shape(), DType::f64));
    weight.attach_gradient(Tensor::zeros(weight.shape(), DType::f64));
    Tape tape;
    Tensor loss;
    {
      const TapeScope scope(tape);
      loss = head_cross_entropy(hidden, weight, in.targets, in.weights, c.chunk, &losses);
    }
    EXPECT_EQ(loss.shape(), Shape{});
    expect_near(losses.values<double>(), want.losses, 1e-13);
    double sum = 0;
    for (const double x : want.losses) sum += x;
    EXPECT_NEAR(loss.item(), sum, 1e-12 * (1 + std::abs(sum)));
    // Without a tape: the same losses.
    Tensor again;
    EXPECT_EQ(head_cross_entropy(hidden, weight, in.targets, in.weights, c.chunk, &again).item(), loss.item());
    EXPECT_EQ(again.values<double>(), losses.values<double>());

    tape.backward(loss, Tensor::from(std::vector<double>{cotangent}, {}));
    expect_near(hidden.gradient().values<double>(), want.dhidden, 1e-13);
    expect_near(weight.gradient().values<double>(), want.dweight, 1e-13);
  }
}

TEST(HeadCrossEntropy, Gradients) {
  for (const Case& c : kCases) {
    SCOPED_TRACE(name(c));
    const Input in = input(c);
    const auto function = [&](const std::vector<Tensor>& x) {
      return std::vector<Tensor>{head_cross_entropy(x[0], x[1], in.targets, in.weights, c.chunk)};
    };
    check({in.hidden, in.weight}, function);
  }
}

TEST(HeadCrossEntropy, OneGradientOnlyAndATiedWeight) {
  const Input in = input({9, 5, 7, 4});
  check({in.hidden}, [&](const std::vector<Tensor>& x) {
    return std::vector<Tensor>{head_cross_entropy(x[0], in.weight, in.targets, in.weights, 4)};
  });
  check({in.weight}, [&](const std::vector<Tensor>& x) {
    return std::vector<Tensor>{head_cross_entropy(in.hidden, x[0], in.targets, in.weights, 4)};
  });
  // The same weight in a layer before, and hidden a column slice.
  const Tensor wide = normal_tensor({9, 5}, 8);
  check({wide, in.weight}, [&](const std::vector<Tensor>& x) {
    return std::vector<Tensor>{head_cross_entropy(linear(x[0], x[1]).columns(1, 6), x[1], in.targets, in.weights, 4)};
  });
}

TEST(HeadCrossEntropy, NoMatrixOfAllLogitsExists) {
  const Index rows = 512, width = 8, vocab = 1024;
  const Tensor hidden = Tensor::from(normal(rows * width, 1), {rows, width}),
               weight = Tensor::from(normal(vocab * width, 2), {vocab, width});
  const Tensor targets = Tensor::from(integers(rows, vocab, 3), {rows});
  const Tensor weights = Tensor::from(std::vector<float>(rows, 1), {rows});
  Allocator& allocator = Allocator::of(Device::cpu);
  const auto before = allocator.statistics().live;
  allocator.reset_peak();
  head_cross_entropy(hidden, weight, targets, weights, 16);
  EXPECT_LT(allocator.statistics().peak - before, static_cast<std::size_t>(rows * vocab * 4 / 8));
}

TEST(HeadCrossEntropy, NoRows) {
  Tensor weight = normal_tensor({7, 5}, 1);
  weight.attach_gradient(Tensor::zeros({7, 5}, DType::f64));
  Tape tape;
  Tensor loss;
  {
    const TapeScope scope(tape);
    loss = head_cross_entropy(normal_tensor({0, 5}, 2), weight, Tensor::empty({0}, DType::i32),
                              Tensor::empty({0}, DType::f64));
  }
  EXPECT_EQ(loss.item(), 0);
  tape.backward(loss);
  EXPECT_EQ(weight.gradient().values<double>(), std::vector<double>(35, 0.0));
}

TEST(HeadCrossEntropy, RefusesWhatDoesNotFit) {
  const Input in = input({9, 5, 7, 4});
  EXPECT_THROW(head_cross_entropy(in.hidden, normal_tensor({7, 4}, 1), in.targets, in.weights), Error);
  EXPECT_THROW(head_cross_entropy(in.hidden, in.weight, in.weights, in.weights), Error);
  EXPECT_THROW(head_cross_entropy(in.hidden, in.weight, in.targets, in.targets), Error);
  EXPECT_THROW(head_cross_entropy(in.hidden, in.weight, in.targets, in.weights, 0), Error);
  for (const std::int32_t bad : {-1, 7}) {
    in.targets.data<std::int32_t>()[4] = bad;
    EXPECT_THROW(head_cross_entropy(in.hidden, in.weight, in.targets, in.weights), Error);
  }
}

}  // namespace
}  // namespace unfurl::tests
