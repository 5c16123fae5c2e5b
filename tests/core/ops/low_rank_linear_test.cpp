#include "core/ops/low_rank_linear.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "core/ops/linear.h"
#include "tests/support/gradient_check.h"

namespace unfurl::tests {
namespace {

/// Two parts of the output and two of the input, one of which both use. Inputs: x, then a, b of each part.
std::vector<LowRank> parts_of(const std::vector<Tensor>& in) {
  return {{in[1], in[2], 0, 2}, {in[3], in[4], 4, 0}, {in[5], in[6], 0, 2}};
}

std::vector<Tensor> leaves(Index rows) {
  return {normal_tensor({rows, 9}, 1), normal_tensor({2, 4}, 2), normal_tensor({5, 2}, 3), normal_tensor({3, 5}, 4),
          normal_tensor({7, 3}, 5),    normal_tensor({2, 9}, 6), normal_tensor({3, 2}, 7)};
}

TEST(LowRankLinear, GradientsAreThoseOfCentralDifferences) {
  const Tensor weight = normal_tensor({7, 9}, 8);
  const auto function = [&](const std::vector<Tensor>& in) {
    return std::vector<Tensor>{low_rank_linear(in[0], weight, parts_of(in), 1.7)};
  };
  for (const Index rows : {1, 5, 33}) {
    check_gradients(function, leaves(rows));
    check_gradients(of_activations(function), leaves(rows));
  }
  // Where x needs no gradient.
  const std::vector<Tensor> all = leaves(5);
  check_gradients(
      [&](const std::vector<Tensor>& in) {
        std::vector<Tensor> with_x = {all[0]};
        with_x.insert(with_x.end(), in.begin(), in.end());
        return std::vector<Tensor>{low_rank_linear(all[0], weight, parts_of(with_x), 1.7)};
      },
      {all.begin() + 1, all.end()});
}

TEST(LowRankLinear, IsTheProductWithTheMergedWeight) {
  const std::vector<Tensor> in = leaves(6);
  const Tensor weight = normal_tensor({7, 9}, 8);
  std::vector<double> merged = weight.values<double>();
  for (const LowRank& part : parts_of(in)) {
    const Index rank = part.a.rows();
    for (Index o = 0; o < part.b.rows(); ++o) {
      for (Index i = 0; i < part.a.cols(); ++i) {
        for (Index r = 0; r < rank; ++r) {
          merged[static_cast<std::size_t>((part.out + o) * 9 + part.in + i)] +=
              1.7 * part.b.data<double>()[o * rank + r] * part.a.data<double>()[r * part.a.cols() + i];
        }
      }
    }
  }
  const auto got = low_rank_linear(in[0], weight, parts_of(in), 1.7).values<double>();
  const auto want = linear(in[0], Tensor::from(merged, {7, 9})).values<double>();
  for (std::size_t i = 0; i < want.size(); ++i) EXPECT_NEAR(got[i], want[i], 1e-11);
}

TEST(LowRankLinear, RefusesPartsThatDoNotFit) {
  const Tensor x = normal_tensor({2, 9}, 1), weight = normal_tensor({7, 9}, 2);
  const Tensor a = normal_tensor({2, 4}, 3), b = normal_tensor({5, 2}, 4);
  EXPECT_NO_THROW(low_rank_linear(x, weight, {{a, b, 5, 2}}, 1));
  EXPECT_THROW(low_rank_linear(x, weight, {{a, b, 6, 2}}, 1), Error);
  EXPECT_THROW(low_rank_linear(x, weight, {{a, b, 5, 3}}, 1), Error);
  EXPECT_THROW(low_rank_linear(x, weight, {{a, normal_tensor({5, 3}, 4), 0, 0}}, 1), Error);
}

}  // namespace
}  // namespace unfurl::tests
