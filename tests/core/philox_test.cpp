#include "kernels/philox.h"

#include <gtest/gtest.h>

namespace unfurl::tests {
namespace {

using Words = std::array<std::uint32_t, 4>;

/// The paper's words: counter 0 and 1 are the index, 2 the step, 3 the purpose; the key is the seed.
constexpr Words of(const Words& counter, std::uint32_t key0, std::uint32_t key1) {
  return philox({std::uint64_t{key1} << 32 | key0, counter[3], counter[2]},
                std::uint64_t{counter[1]} << 32 | counter[0]);
}

TEST(Philox, GivesTheKnownAnswers) {
  EXPECT_EQ(of({0, 0, 0, 0}, 0, 0), (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  constexpr std::uint32_t ones = 0xffffffff;
  EXPECT_EQ(of({ones, ones, ones, ones}, ones, ones), (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(of({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, 0xa4093822, 0x299f31d0),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Philox, IsKnownWhenCompiled) {
  static_assert(philox({}, 0)[0] == 0x6627e8d5);
  static_assert(uniform(0xffffffff) < 1.0f && uniform(0) == 0.0f && uniform(0x80000000) == 0.5f);
}

TEST(Philox, EveryPartOfTheAddressMatters) {
  const PhiloxKey key{5, 6, 7};
  const Words base = philox(key, 8);
  EXPECT_EQ(philox(key, 8), base);
  EXPECT_NE(philox({4, 6, 7}, 8), base);
  EXPECT_NE(philox({5 + (std::uint64_t{1} << 32), 6, 7}, 8), base);
  EXPECT_NE(philox({5, 7, 7}, 8), base);
  EXPECT_NE(philox({5, 6, 6}, 8), base);
  EXPECT_NE(philox(key, 9), base);
  EXPECT_NE(philox(key, 8 + (std::uint64_t{1} << 32)), base);
}

TEST(Philox, UniformNumbersAreUniform) {
  constexpr int kDraws = 40'000, kBins = 20;
  std::array<int, kBins> bins{};
  double sum = 0;
  for (int i = 0; i < kDraws / 4; ++i) {
    for (const std::uint32_t word : philox({1, 2, 3}, static_cast<std::uint64_t>(i))) {
      const float u = uniform(word);
      ASSERT_GE(u, 0.0f);
      ASSERT_LT(u, 1.0f);
      ++bins[static_cast<std::size_t>(u * kBins)];
      sum += u;
    }
  }
  EXPECT_NEAR(sum / kDraws, 0.5, 0.006);  // four standard deviations
  double chi_squared = 0;
  constexpr double kExpected = double{kDraws} / kBins;
  for (const int count : bins) chi_squared += (count - kExpected) * (count - kExpected) / kExpected;
  EXPECT_LT(chi_squared, 43.8);  // 19 degrees of freedom: exceeded once in a thousand
}

}  // namespace
}  // namespace unfurl::tests
