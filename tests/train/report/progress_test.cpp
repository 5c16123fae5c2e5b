#include "train/report/progress.h"

#include <gtest/gtest.h>

#include <cmath>

namespace unfurl::tests {
namespace {

using namespace unfurl::train;

/// A progress display that writes into a file in memory, on a clock of the test's own.
class ProgressTest : public testing::Test {
 protected:
  ProgressTest() : out_(::open_memstream(&text_, &size_)) {}
  ~ProgressTest() override {
    std::fclose(out_);
    std::free(text_);
  }
  Progress::Options options(bool terminal) {
    return {.out = out_, .terminal = terminal, .interval = 10, .now = [this] { return now_; }};
  }
  std::string shown() {
    std::fflush(out_);
    return std::string(text_, size_);
  }
  double now_ = 1000;
  char* text_ = nullptr;
  std::size_t size_ = 0;
  std::FILE* out_;
};

TEST_F(ProgressTest, PlainLinesFromTimeToTime) {
  Progress progress(0, 100, options(false));
  for (int step = 1; step <= 25; ++step) {
    now_ += 1;
    progress.update(step, 500, 3.25);
  }
  EXPECT_EQ(shown(),
            "step 10/100  10%  loss 3.250  500 tokens/s  1:30 left\n"
            "step 20/100  20%  loss 3.250  500 tokens/s  1:20 left\n");
  progress.update(100, 0, 1);
  EXPECT_NE(shown().find("step 100/100  100%  loss 1.000"), std::string::npos);
}

TEST_F(ProgressTest, ATerminalsLineIsRewrittenAndEnded) {
  {
    Progress progress(0, 10, options(true));
    now_ += 2;
    progress.update(1, 3000, 2);
    now_ += 0.01;
    progress.update(2, 3000, 1);  // too soon to see
    EXPECT_EQ(shown(), "\rstep 1/10  10%  loss 2.000  1,500 tokens/s  0:18 left\033[K");
    progress.clear();
    EXPECT_TRUE(shown().ends_with("\r\033[K"));
    now_ += 1;
    progress.update(3, 3000, 1);
  }
  EXPECT_TRUE(shown().ends_with("\033[K\n"));
}

TEST_F(ProgressTest, PausesDoNotCount) {
  Progress progress(40, 100, options(false));
  now_ += 1;
  progress.update(41, 100, 1);
  progress.pause();
  progress.pause();
  now_ += 1000;
  EXPECT_DOUBLE_EQ(progress.seconds(), 1);
  progress.resume();
  now_ += 1;
  progress.update(42, 100, 1);
  EXPECT_DOUBLE_EQ(progress.tokens_per_second(), 100);
  EXPECT_DOUBLE_EQ(progress.seconds(), 2);
  EXPECT_TRUE(progress.line().ends_with("0:58 left")) << progress.line();
}

TEST_F(ProgressTest, TheRateIsThatOfTheLastSeconds) {
  Progress progress(0, 1000, options(false));
  for (int step = 1; step <= 60; ++step) {
    now_ += 1;
    progress.update(step, step <= 50 ? 100 : 900, 1);
  }
  EXPECT_NEAR(progress.tokens_per_second(), 900, 1e-6);
}

TEST_F(ProgressTest, NothingIsKnownAtFirst) {
  Progress progress(0, 0, options(false));
  EXPECT_EQ(progress.line(), "step 0/0  100%  loss 0.000  0 tokens/s  ? left");
}

TEST(Duration, OfAllSizes) {
  EXPECT_EQ(duration(0), "0:00");
  EXPECT_EQ(duration(59.6), "1:00");
  EXPECT_EQ(duration(7509), "2:05:09");
  EXPECT_EQ(duration(-1), "?");
  EXPECT_EQ(duration(std::nan("")), "?");
  EXPECT_EQ(duration(1e300), "?");
}

TEST(Grouped, OfAllSizes) {
  EXPECT_EQ(grouped(0), "0");
  EXPECT_EQ(grouped(999), "999");
  EXPECT_EQ(grouped(1000), "1,000");
  EXPECT_EQ(grouped(-123456), "-123,456");
  EXPECT_EQ(grouped(1234567), "1,234,567");
}

}  // namespace
}  // namespace unfurl::tests
