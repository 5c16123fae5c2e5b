#include "train/judge/agreement.h"

#include <gtest/gtest.h>

namespace unfurl::tests {
namespace {

using namespace unfurl::train;

TEST(KrippendorffAlpha, GivesThePublishedFigures) {
  // Krippendorff (2011): two observers, binary data; four observers, nominal data with missing values.
  const std::vector<std::vector<int>> binary = {{0, 1}, {1, 1}, {0, 1}, {0, 0}, {0, 0},
                                                {0, 1}, {0, 0}, {0, 0}, {1, 0}, {0, 0}};
  EXPECT_NEAR(krippendorff_alpha(binary).value(), 0.095, 5e-4);
  const std::vector<std::vector<int>> nominal = {{1, 1, 1},    {2, 2, 3, 2}, {3, 3, 3, 3}, {3, 3, 3, 3},
                                                 {2, 2, 2, 2}, {1, 2, 3, 4}, {4, 4, 4, 4}, {1, 1, 2, 1},
                                                 {2, 2, 2, 2}, {5, 5, 5},    {1, 1},       {3}};
  EXPECT_NEAR(krippendorff_alpha(nominal).value(), 0.743, 5e-4);
}

TEST(KrippendorffAlpha, KnowsWhatCannotBeSaid) {
  EXPECT_FALSE(krippendorff_alpha({}));
  EXPECT_FALSE(krippendorff_alpha({{1}, {2}}));
  EXPECT_FALSE(krippendorff_alpha({{1, 1}, {1, 1}}));
  EXPECT_DOUBLE_EQ(krippendorff_alpha({{1, 1}, {2, 2}, {0, 0, 0}}).value(), 1);
  EXPECT_LT(krippendorff_alpha({{1, 2}, {2, 1}}).value(), 0);
}

}  // namespace
}  // namespace unfurl::tests
