#include "core/ops/dropout.h"

#include "core/ops/add.h"
#include "core/random.h"
#include "tests/support/expect_error.h"
#include "tests/support/gradient_check.h"

namespace unfurl::tests {
namespace {

const PhiloxKey kKey = philox_key(7, Purpose::dropout, 3, 1);

TEST(Dropout, GradientsAreThoseOfDifferences) {
  for (const Shape& shape : {Shape{1, 5}, {33, 31}, {5, 129}}) {
    check_gradients(
        [](const auto& in) {
          return std::vector{dropout(in[0], 0.3, kKey, 64), copy(in[0])};
        },
        {normal_tensor(shape, 1)});
  }
}

TEST(Dropout, RateZeroIsTheTensorItself) {
  const Tensor x = normal_tensor({3, 5}, 1);
  EXPECT_EQ(dropout(x, 0, kKey, 0).data<double>(), x.data<double>());
}

// The mask belongs to the global batch: halves of it, each by its first index, drop what the whole drops.
TEST(Dropout, MaskDoesNotDependOnHowTheBatchIsCut) {
  const Tensor x = normal_tensor({64, 33}, 1);
  const auto whole = dropout(x, 0.4, kKey, 0).values<double>();
  auto parts = dropout(x.span_of(0, {20, 33}), 0.4, kKey, 0).values<double>();
  const auto rest = dropout(x.span_of(20 * 33, {44, 33}), 0.4, kKey, 20 * 33).values<double>();
  parts.insert(parts.end(), rest.begin(), rest.end());
  EXPECT_EQ(parts, whole);
  const auto dropped = static_cast<double>(std::count(whole.begin(), whole.end(), 0.0));
  EXPECT_NEAR(dropped / static_cast<double>(whole.size()), 0.4, 0.04);
}

TEST(Dropout, NamesWhatDoesNotFit) {
  const Tensor x = normal_tensor({3, 8}, 1);
  EXPECT_EQ(error_of([&] { dropout(x, 1, kKey, 0); }), "dropout: rate must be in [0, 1), got 1");
  EXPECT_EQ(error_of([&] { dropout(x, 0.5, kKey, 2); }), "dropout: first_index must be a multiple of 4, got 2");
  EXPECT_EQ(error_of([&] { dropout(x.columns(0, 4), 0.5, kKey, 0); }),
            "dropout: x must be a contiguous matrix, got [3, 4]");
}

}  // namespace
}  // namespace unfurl::tests
