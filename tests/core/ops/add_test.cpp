#include "core/ops/add.h"

#include "tests/support/expect_error.h"
#include "tests/support/gradient_check.h"

namespace unfurl::tests {
namespace {

TEST(Add, GradientsAreThoseOfDifferences) {
  for (const Shape& shape : {Shape{1, 1}, {5, 33}, {2, 3, 31}}) {
    check_gradients(
        [](const auto& in) {
          const Tensor sum = add(in[0], in[1]);
          return std::vector{add(sum, in[0]), add(sum, sum), add(copy(in[1]), sum)};
        },
        {normal_tensor(shape, 1), normal_tensor(shape, 2)});
  }
}

TEST(Add, CopiesOfSlicesCarryTheirGradient) {
  check_gradients(
      [](const auto& in) {
        const Tensor wide = copy(in[0]);
        return std::vector{copy(wide.columns(3, 9)), add(wide.columns(0, 4), wide.columns(5, 9))};
      },
      {normal_tensor({7, 11}, 1)});
}

TEST(Add, CopyOfASliceIsContiguous) {
  const Tensor x = Tensor::from(std::vector<double>{1, 2, 3, 4, 5, 6}, {2, 3});
  const Tensor y = copy(x.columns(1, 3));
  EXPECT_TRUE(y.contiguous());
  EXPECT_EQ(y.values<double>(), (std::vector<double>{2, 3, 5, 6}));
}

TEST(Add, NamesWhatDoesNotFit) {
  EXPECT_EQ(error_of([] {
              add(normal_tensor({2, 3}, 1), normal_tensor({3, 2}, 1));
            }),
            "add: both must be f64 [2, 3], got f64 [3, 2]");
}

}  // namespace
}  // namespace unfurl::tests
