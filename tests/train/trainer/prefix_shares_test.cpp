#include "train/trainer/prefix_shares.h"

#include <gtest/gtest.h>

#include <cmath>

namespace unfurl::tests {
namespace {

using namespace unfurl::train;

TEST(PrefixShares, AreCountedByTenth) {
  PrefixShares shares(20);
  std::vector<Json> metrics = {Json(Json::Object{{"kind", "step"}, {"step", 1}})};
  int lines = 0;
  for (Index step = 1; step <= 20; ++step) {
    shares.add(step, 10, step == 20 ? 4 : 5, 0.5);
    EXPECT_EQ(shares.ends_tenth(), step % 2 == 0 && step < 20) << step;
    if (!shares.ends_tenth() && step != 20) continue;
    metrics.push_back(shares.take());
    ++lines;
  }
  EXPECT_EQ(lines, 10);
  EXPECT_TRUE(shares.take().is_null());
  const std::vector<PrefixTenth> tenths = prefix_tenths(metrics, 20);
  ASSERT_EQ(tenths.size(), 10u);
  for (std::size_t i = 0; i < 10; ++i) {
    EXPECT_EQ(tenths[i].pairs, 20) << i;
    EXPECT_EQ(tenths[i].dropped, i == 9 ? 9 : 10) << i;
    EXPECT_DOUBLE_EQ(tenths[i].schedule(), 0.5);
  }
  EXPECT_NEAR(tenths[9].deviation(), -0.05 / std::sqrt(0.25 / 20), 1e-12);
  EXPECT_EQ(prefix_table(tenths).size(), 10u);
  EXPECT_EQ(prefix_table(tenths)[9], (std::vector<std::string>{"10", "20", "0.450", "0.500", "-0.4"}));
  EXPECT_TRUE(prefix_tenths({metrics[0]}, 20).empty());
}

TEST(PrefixShares, ShortRunsAndCertainty) {
  PrefixShares shares(3);
  for (Index step = 1; step <= 3; ++step) {
    shares.add(step, 5, 5, 1);
    const std::vector<PrefixTenth> tenths = prefix_tenths({shares.take()}, 3);
    EXPECT_EQ(tenths[static_cast<std::size_t>((step - 1) * 10 / 3)].pairs, 5);
    EXPECT_EQ(tenths[static_cast<std::size_t>((step - 1) * 10 / 3)].deviation(), 0);
  }
}

}  // namespace
}  // namespace unfurl::tests
