#include "core/ops/rope.h"

#include "core/ops/add.h"
#include "tests/support/expect_error.h"
#include "tests/support/gradient_check.h"

namespace unfurl::tests {
namespace {

Tensor positions_of(Index tokens, std::int32_t bound) { return Tensor::from(integers(tokens, bound, 5), {tokens}); }

TEST(Rope, GradientsAreThoseOfDifferences) {
  for (const auto& [tokens, heads, head_dim] : {std::array<Index, 3>{1, 1, 2}, {7, 3, 6}, {33, 2, 34}, {5, 1, 64}}) {
    const Tensor table = rope_table(50, head_dim, 10000, DType::f64, Device::cpu);
    const Tensor positions = positions_of(tokens, 50);
    check_gradients([=, h = heads](const auto& in) { return std::vector{rope(in[0], positions, table, h)}; },
                    {normal_tensor({tokens, heads * head_dim}, 1)});
  }
}

TEST(Rope, ReadsColumnSlices) {
  const Tensor table = rope_table(50, 6, 10000, DType::f64, Device::cpu), positions = positions_of(9, 50);
  const auto sliced = [=](const std::vector<Tensor>& in) {
    const Tensor joint = copy(in[0]);
    return std::vector{rope(joint.columns(0, 12), positions, table, 2),
                       rope(joint.columns(12, 18), positions, table, 1)};
  };
  const auto copied = [=](const std::vector<Tensor>& in) {
    return std::vector{rope(copy(in[0].columns(0, 12)), positions, table, 2),
                       rope(copy(in[0].columns(12, 18)), positions, table, 1)};
  };
  expect_same_function(sliced, copied, {normal_tensor({9, 20}, 1)});
}

// As a decoder does with the query and key heads of a joint projection.
TEST(Rope, SlicesSideBySideTurnAsOne) {
  const Tensor table = rope_table(50, 6, 10000, DType::f64, Device::cpu), positions = positions_of(9, 50);
  const auto apart = [=](const std::vector<Tensor>& in) {
    const Tensor joint = copy(in[0]);
    return std::vector{rope(joint.columns(0, 12), positions, table, 2),
                       rope(joint.columns(12, 18), positions, table, 1)};
  };
  const auto as_one = [=](const std::vector<Tensor>& in) {
    const Tensor both = rope(copy(in[0]).columns(0, 18), positions, table, 3);
    return std::vector{both.columns(0, 12), both.columns(12, 18)};
  };
  expect_same_function(as_one, apart, {normal_tensor({9, 20}, 1)});
}

// What RoPE is for: products of queries and keys depend on the difference of their positions alone.
TEST(Rope, ProductsDependOnTheDistance) {
  const Index head_dim = 16;
  const Tensor table = rope_table(100, head_dim, 10000, DType::f64, Device::cpu);
  const Tensor q = normal_tensor({1, head_dim}, 1), k = normal_tensor({1, head_dim}, 2);
  const auto product = [&](std::int32_t at_q, std::int32_t at_k) {
    const auto a = rope(q, Tensor::from(std::vector{at_q}, {1}), table, 1).values<double>();
    const auto b = rope(k, Tensor::from(std::vector{at_k}, {1}), table, 1).values<double>();
    double sum = 0;
    for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
    return sum;
  };
  EXPECT_NEAR(product(7, 3), product(91, 87), 1e-12);
  EXPECT_GT(std::abs(product(7, 3) - product(7, 4)), 1e-3);
}

TEST(Rope, NamesWhatDoesNotFit) {
  const Tensor table = rope_table(50, 6, 10000, DType::f64, Device::cpu);
  EXPECT_EQ(error_of([&] {
              rope(normal_tensor({9, 13}, 1), positions_of(9, 50), table, 2);
            }),
            "rope: x must be [tokens, 12], got [9, 13]");
  const Tensor late = Tensor::from(std::vector<std::int32_t>{3, 50}, {2});
  EXPECT_EQ(error_of([&] {
              rope(normal_tensor({2, 12}, 1), late, table, 2);
            }),
            "rope: positions must be in [0, 50), got 50 at 1");
  EXPECT_EQ(error_of([&] { rope_table(50, 7, 10000, DType::f64, Device::cpu); }),
            "rope_table: head_dim must be even, got 7");
}

}  // namespace
}  // namespace unfurl::tests
