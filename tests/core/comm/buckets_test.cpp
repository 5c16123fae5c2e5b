#include "core/comm/buckets.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace unfurl {
namespace {

constexpr Index kBlock = kernels::kNormBlock;

TEST(Buckets, EveryElementHasOneOwnerInWholeBlocks) {
  for (const Index count : {Index{1}, kBlock, 7 * kBlock + 64, 64 * kBlock, 129 * kBlock + 1}) {
    for (const Index bucket : {Index{0}, kBlock, 3 * kBlock, 16 * kBlock, 1000 * kBlock}) {
      for (const int ranks : {1, 2, 4, 8, 64}) {
        SCOPED_TRACE(testing::Message() << count << " in " << bucket << " for " << ranks);
        std::vector<Range> all;
        Index least = count, most = 0;
        for (int rank = 0; rank < ranks; ++rank) {
          const Buckets whole{count, bucket, ranks, rank};
          const std::vector<Range> own = whole.own();
          if (ranks == 1) {
            ASSERT_EQ(own.size(), 1U);
          }
          for (const Range& part : own) {
            EXPECT_GT(part.size(), 0);
            EXPECT_EQ(part.begin % kBlock, 0);
            EXPECT_TRUE(part.end % kBlock == 0 || part.end == count);
            all.push_back(part);
          }
          EXPECT_TRUE(std::is_sorted(own.begin(), own.end(), [](auto& a, auto& b) { return a.end < b.begin; }));
          least = std::min(least, whole.own_count());
          most = std::max(most, whole.own_count());
        }
        EXPECT_LE(most - least, 3 * kBlock);
        std::sort(all.begin(), all.end(), [](auto& a, auto& b) { return a.begin < b.begin; });
        Index at = 0;
        for (const Range& part : all) {
          EXPECT_EQ(part.begin, at);
          at = part.end;
        }
        EXPECT_EQ(at, count);
      }
    }
  }
}

TEST(Buckets, OneIsSharedInOnePieceEach) {
  for (int rank = 0; rank < 4; ++rank) {
    const Buckets whole{10 * kBlock + 5, 0, 4, rank};
    const Range expected = Shards{10 * kBlock + 5, 4, rank}.own();
    ASSERT_EQ(whole.own().size(), 1U);
    EXPECT_EQ(whole.own()[0].begin, expected.begin);
    EXPECT_EQ(whole.own()[0].end, expected.end);
  }
}

TEST(Buckets, EachHasWorkForAllRanks) {
  for (int rank = 0; rank < 4; ++rank) {
    const Buckets whole{64 * kBlock, 16 * kBlock, 4, rank};
    ASSERT_EQ(whole.size(), 4);
    for (Index number = 0; number < 4; ++number) EXPECT_EQ(whole.own(number).size(), 4 * kBlock);
  }
}

}  // namespace
}  // namespace unfurl
