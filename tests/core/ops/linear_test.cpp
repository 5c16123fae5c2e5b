#include "core/ops/linear.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "core/ops/add.h"
#include "tests/support/gradient_check.h"

namespace unfurl::tests {
namespace {

void check(const std::vector<Tensor>& inputs, const TensorFunction& function) {
  check_gradients(function, inputs);
  check_gradients(of_activations(function), inputs);
}

TEST(Linear, MultipliesByTheTransposedWeight) {
  const Tensor x = Tensor::from(std::vector<float>{1, 2, 3, 4, 5, 6}, {2, 3});
  const Tensor weight = Tensor::from(std::vector<float>{1, 0, 0, 0, 1, 1, 2, 2, 2, -1, 0, 1}, {4, 3});
  const Tensor y = linear(x, weight);
  EXPECT_EQ(y.shape(), Shape({2, 4}));
  EXPECT_EQ(y.values<float>(), (std::vector<float>{1, 5, 12, 2, 4, 11, 30, 2}));
}

TEST(Linear, KeepsLeadingDimensions) {
  const Tensor y = linear(normal_tensor({2, 3, 5}, 1), normal_tensor({7, 5}, 2));
  EXPECT_EQ(y.shape(), Shape({2, 3, 7}));
  EXPECT_EQ(linear(normal_tensor({5}, 1), normal_tensor({7, 5}, 2)).shape(), Shape({7}));
  EXPECT_EQ(linear(normal_tensor({0, 5}, 1), normal_tensor({7, 5}, 2)).shape(), Shape({0, 7}));
}

TEST(Linear, Gradients) {
  const auto function = [](const std::vector<Tensor>& in) { return std::vector<Tensor>{linear(in[0], in[1])}; };
  for (const Index rows : {1, 3, 33}) {
    for (const auto& [out, in] : {std::pair<Index, Index>{1, 1}, {31, 5}, {5, 65}, {129, 17}}) {
      SCOPED_TRACE(::testing::Message() << rows << " rows, " << in << " to " << out);
      check({normal_tensor({rows, in}, 1), normal_tensor({out, in}, 2)}, function);
    }
  }
  check({normal_tensor({2, 3, 7}, 1), normal_tensor({4, 7}, 2)}, function);
}

TEST(Linear, GradientsOfSlicesAndOfAWeightUsedTwice) {
  check({normal_tensor({5, 12}, 1), normal_tensor({9, 4}, 2)}, [](const std::vector<Tensor>& in) {
    return std::vector<Tensor>{linear(in[0].columns(3, 7), in[1]), linear(in[0].columns(8, 12), in[1])};
  });
  check({normal_tensor({5, 4}, 1), normal_tensor({4, 4}, 2)},
        [](const std::vector<Tensor>& in) { return std::vector<Tensor>{linear(linear(in[0], in[1]), in[1])}; });
  check({normal_tensor({5, 5}, 1)},
        [](const std::vector<Tensor>& in) { return std::vector<Tensor>{linear(in[0], in[0])}; });
}

TEST(Linear, AddsToNoGradientThatSharesMemory) {
  // Backward, the sum comes first and gives both its terms one gradient; then linear adds to that of the first.
  check({normal_tensor({5, 4}, 1), normal_tensor({5, 4}, 2), normal_tensor({3, 4}, 3)},
        [](const std::vector<Tensor>& in) {
          const Tensor y = linear(in[2], in[0]);
          return std::vector<Tensor>{y, add(in[0], in[1])};
        });
}

TEST(Linear, RefusesWhatDoesNotFit) {
  EXPECT_THROW(linear(normal_tensor({2, 3}, 1), normal_tensor({4, 5}, 2)), Error);
  EXPECT_THROW(linear(normal_tensor({2, 3}, 1), normal_tensor({3}, 2)), Error);
  EXPECT_THROW(linear(normal_tensor({2, 3}, 1), Tensor::from(normal(12, 2), {4, 3})), Error);
}

}  // namespace
}  // namespace unfurl::tests
