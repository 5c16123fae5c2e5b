#include "core/comm/watchdog.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <stdexcept>
#include <thread>

namespace unfurl {
namespace {

/// A watchdog with a timeout of 0.1 seconds, and what it has barked.
struct Yard {
  Watchdog::Hooks hooks() {
    return {[] {}, [this] { return std::string(broken ? "cable cut" : ""); },
            [this](const std::string& what, Index number, const std::string& reason) {
              said = what + " " + std::to_string(number) + " " + reason;
              barked = true;
            },
            [this] { unheard = true; }, 0.05};
  }
  bool barks_within(double seconds) const {
    const auto begin = std::chrono::steady_clock::now();
    while (!barked && std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() < seconds) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return barked;
  }
  std::atomic<bool> broken{false}, barked{false}, unheard{false};
  std::string said;
};

constexpr double kTimeout = 0.1, kLong = 20;
const auto kYes = [] { return true; };
const auto kNo = [] { return false; };

TEST(WatchdogTest, NamesWhatDoesNotEnd) {
  Yard yard;
  Watchdog dog(kTimeout, yard.hooks());
  dog.add("first", 1, kYes, kYes);
  dog.add("second", 2, kYes, kNo);
  dog.add("third", 3, kYes, kYes);
  ASSERT_TRUE(yard.barks_within(kLong));
  EXPECT_EQ(yard.said, "second 2 has not ended after 0.1 seconds");
  for (int i = 0; i < 20000 && !yard.unheard; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  EXPECT_TRUE(yard.unheard);
}

TEST(WatchdogTest, WorkBeforeTakesItsTime) {
  Yard yard;
  std::atomic<bool> began{false};
  Watchdog dog(kTimeout, yard.hooks());
  dog.add(
      "sum", 1, [&] { return began.load(); }, kNo);
  EXPECT_FALSE(yard.barks_within(4 * kTimeout));
  began = true;
  EXPECT_TRUE(yard.barks_within(kLong));
}

TEST(WatchdogTest, TellsErrors) {
  Yard yard;
  {
    Watchdog dog(kTimeout, yard.hooks());
    dog.add("sum", 7, kNo, kNo);
    yard.broken = true;
    ASSERT_TRUE(yard.barks_within(kLong));
  }
  EXPECT_EQ(yard.said, "sum 7 failed: cable cut");

  Yard other;
  {
    Watchdog dog(kTimeout, other.hooks());
    dog.add("sum", 8, kYes, []() -> bool { throw std::runtime_error("the device is lost"); });
    ASSERT_TRUE(other.barks_within(kLong));
  }
  EXPECT_EQ(other.said, "sum 8 failed: the device is lost");
}

}  // namespace
}  // namespace unfurl
