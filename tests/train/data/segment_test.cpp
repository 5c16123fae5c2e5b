#include "train/data/segment.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>

namespace unfurl::tests {
namespace {

using namespace unfurl::train;

TEST(Segmenter, DrawsEverySegmentationByItsProbability) {
  Segmenter segmenter;
  const std::map<std::string, float> scores = {{"a", -1.f},  {"b", -1.5f}, {"c", -2.f},
                                               {"ab", -2.f}, {"bc", -3.f}, {"abc", -4.f}};
  std::int32_t id = 0;
  for (const auto& [piece, score] : scores) segmenter.add(piece, id++, score);
  // a b c: -4.5; ab c: -4; a bc: -4; abc: -4. With the power 0.5 the weights are exp(-2.25), and three times exp(-2).
  std::map<std::size_t, int> by_length;
  const int count = 20000;
  for (int i = 0; i < count; ++i) {
    Draws draws({1, 2, 3}, static_cast<std::uint64_t>(i) << 32);
    std::vector<std::int32_t> out;
    segmenter.sample("abc", 0.5, draws, out);
    ++by_length[out.size()];
  }
  const double sum = std::exp(-2.25) + 3 * std::exp(-2.0);
  EXPECT_NEAR(by_length[1], count * std::exp(-2.0) / sum, 300);
  EXPECT_NEAR(by_length[2], count * 2 * std::exp(-2.0) / sum, 300);
  EXPECT_NEAR(by_length[3], count * std::exp(-2.25) / sum, 300);
  Draws draws({1, 2, 3}, 0);
  std::vector<std::int32_t> out;
  segmenter.sample("a\u00E9", 0.5, draws, out);
  EXPECT_EQ(out, (std::vector<std::int32_t>{0, -1 - 0xC3, -1 - 0xA9}));
}

}  // namespace
}  // namespace unfurl::tests
