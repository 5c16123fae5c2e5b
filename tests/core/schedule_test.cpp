#include "core/schedule.h"

#include <gtest/gtest.h>

#include <cmath>

namespace unfurl::tests {
namespace {

const ScheduleShape kShapes[] = {ScheduleShape::constant, ScheduleShape::cosine, ScheduleShape::linear,
                                 ScheduleShape::inverse_sqrt};

TEST(Schedule, WarmsUpLinearlyToThePeak) {
  for (const ScheduleShape shape : kShapes) {
    const Schedule schedule{shape, 50, 1000, 0.1};
    EXPECT_EQ(schedule.factor(0), 0.0);
    EXPECT_EQ(schedule.factor(1), 0.02);
    EXPECT_EQ(schedule.factor(25), 0.5);
    EXPECT_EQ(schedule.factor(50), 1.0);
    EXPECT_LE(schedule.factor(51), 1.0);
  }
}

TEST(Schedule, HasItsValuesHalfwayAndAtTheEnd) {
  const auto factor = [](ScheduleShape shape, Index step) { return Schedule{shape, 100, 1100, 0.2}.factor(step); };
  EXPECT_EQ(factor(ScheduleShape::constant, 1100), 1.0);
  EXPECT_NEAR(factor(ScheduleShape::cosine, 600), 0.6, 1e-15);
  EXPECT_NEAR(factor(ScheduleShape::cosine, 350), 0.2 + 0.4 * (1 + std::sqrt(0.5)), 1e-15);
  EXPECT_NEAR(factor(ScheduleShape::cosine, 1100), 0.2, 1e-15);
  EXPECT_NEAR(factor(ScheduleShape::linear, 600), 0.6, 1e-15);
  EXPECT_NEAR(factor(ScheduleShape::linear, 1100), 0.2, 1e-15);
  EXPECT_NEAR(factor(ScheduleShape::inverse_sqrt, 400), 0.5, 1e-15);
  EXPECT_NEAR(factor(ScheduleShape::inverse_sqrt, 1100), std::sqrt(1.0 / 11), 1e-15);
  EXPECT_EQ(factor(ScheduleShape::inverse_sqrt, 100'000), 0.2);
}

TEST(Schedule, StaysAtItsEndAfterTheLastStep) {
  for (const ScheduleShape shape : {ScheduleShape::constant, ScheduleShape::cosine, ScheduleShape::linear}) {
    const Schedule schedule{shape, 10, 100, 0.3};
    EXPECT_EQ(schedule.factor(101), schedule.factor(100));
    EXPECT_EQ(schedule.factor(1'000'000), schedule.factor(100));
  }
}

TEST(Schedule, IsContinuousAndFallsAfterThePeak) {
  for (const ScheduleShape shape : kShapes) {
    for (const Index warmup : {0, 1, 100}) {
      const Schedule schedule{shape, warmup, 10'000, 0.05};
      for (Index step = 1; step < 10'000; ++step) {
        const double now = schedule.factor(step), next = schedule.factor(step + 1);
        ASSERT_TRUE(now > 0 && now <= 1) << step;
        if (step >= warmup) {
          ASSERT_LE(next, now) << step;
        }
        if (step > 1 && (shape != ScheduleShape::inverse_sqrt || warmup == 100)) {
          ASSERT_LE(std::abs(next - now), 0.0101) << step;
        }
      }
    }
  }
}

TEST(Schedule, ShortRunsHaveNoZeroOrNan) {
  for (const ScheduleShape shape : kShapes) {
    EXPECT_EQ((Schedule{shape, 10, 5, 0.5}.factor(5)), 0.5);
    EXPECT_EQ((Schedule{shape, 5, 5, 0.5}.factor(5)), 1.0);
    EXPECT_TRUE(std::isfinite(Schedule{shape, 5, 5, 0.5}.factor(6)));
    EXPECT_TRUE(std::isfinite(Schedule{shape, 0, 1, 0}.factor(1)));
  }
}

}  // namespace
}  // namespace unfurl::tests
