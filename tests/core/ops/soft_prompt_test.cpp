#include "core/ops/soft_prompt.h"

#include <gtest/gtest.h>

#include "core/error.h"

#include "core/ops/add.h"
#include "tests/support/gradient_check.h"

namespace unfurl::tests {
namespace {

Tensor bounds(const std::vector<std::int32_t>& values) {
  return Tensor::from(values, {static_cast<Index>(values.size())});
}

TEST(SoftPrompt, GradientsAreThoseOfCentralDifferences) {
  const auto function = [](const std::vector<Tensor>& in) {
    return std::vector<Tensor>{copy(soft_prompt(normal_tensor({14, 5}, 3), in[0], bounds({0, 4, 4, 9, 14})))};
  };
  check_gradients(function, {normal_tensor({3, 5}, 1)});
}

TEST(SoftPrompt, RefusesWhatDoesNotFit) {
  const Tensor x = normal_tensor({8, 5}, 3), prompt = normal_tensor({3, 5}, 1);
  EXPECT_THROW(soft_prompt(x, prompt, bounds({0, 2, 8})), Error);  // too short
  EXPECT_THROW(soft_prompt(x, prompt, bounds({0, 4, 9})), Error);  // beyond the end
  EXPECT_THROW(soft_prompt(x, prompt, bounds({0, 4, 1})), Error);  // backwards
  EXPECT_THROW(soft_prompt(x, normal_tensor({3, 4}, 1), bounds({0, 8})), Error);
  Tensor trained = normal_tensor({8, 5}, 3);
  trained.attach_gradient(Tensor::zeros({8, 5}, DType::f64));
  EXPECT_THROW(soft_prompt(trained, prompt, bounds({0, 8})), Error);
}

}  // namespace
}  // namespace unfurl::tests
