#include "train/data/pack.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "core/error.h"
#include "tests/support/random.h"
#include "tests/train/data/fixture.h"

namespace unfurl::tests {
namespace {

using namespace unfurl::train;

TEST(Pack, PutsEveryDocumentInOneBinWithinItsLimits) {
  for (const auto& [tokens, documents] : {std::pair<Index, Index>{64, 100}, {64, 1}, {64, 3}, {100, 7}, {1000, 1000}}) {
    std::vector<std::int32_t> rows = integers(997, 64, 3);
    for (std::int32_t& r : rows) ++r;
    const Bins bins = pack(rows, tokens, documents);
    std::set<std::int64_t> seen;
    for (Index b = 0; b < bins.size(); ++b) {
      Index sum = 0;
      for (const std::int64_t i : bins.bin(b)) {
        EXPECT_TRUE(seen.insert(i).second);
        sum += rows[static_cast<std::size_t>(i)];
      }
      EXPECT_GE(bins.bin(b).size(), 1u);
      EXPECT_LE(sum, tokens);
      EXPECT_LE(static_cast<Index>(bins.bin(b).size()), documents);
    }
    EXPECT_EQ(seen.size(), rows.size());
  }
  EXPECT_EQ(pack({}, 8, 1).size(), 0);
  EXPECT_THROW(pack(std::vector<std::int32_t>{9}, 8, 1), Error);
  EXPECT_THROW(pack(std::vector<std::int32_t>{0}, 8, 1), Error);
}

TEST(Pack, BestFitLeavesTheLeastRoom) {
  // 60 and 55 open bins with room for 40 and 45; the 40 goes where it leaves none. Tens then fill the rest.
  const std::vector<std::int32_t> rows = {55, 60, 40, 10, 10, 10, 10, 5, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
  const Bins bins = pack(rows, 100, 99);
  ASSERT_EQ(bins.size(), 3);
  EXPECT_TRUE(std::ranges::equal(bins.bin(1), std::vector<std::int64_t>{1, 2}));
  EXPECT_TRUE(std::ranges::equal(bins.bin(0), std::vector<std::int64_t>{0, 3, 4, 5, 6, 7}));
}

TEST(Pack, LongDocumentsGoFirstWhereBinsAreSmall) {
  const Bins bins = pack(std::vector<std::int32_t>{5, 4, 5, 6}, 10, 9);
  ASSERT_EQ(bins.size(), 2);
  EXPECT_TRUE(std::ranges::equal(bins.bin(0), std::vector<std::int64_t>{1, 3}));
  EXPECT_TRUE(std::ranges::equal(bins.bin(1), std::vector<std::int64_t>{0, 2}));
}

TEST(Batch, LaysDocumentsOneAfterTheOther) {
  const std::vector<Example> examples = {
      {{20, 4, 30, 31, 3}, 2, false},
      {{4, 30}, 1, false},
      {{5, 20, 21, 4, 30, 30}, 4, true},
  };
  const Batch batch = make_batch(examples, std::vector<std::int64_t>{70, 71, 72}, 12, 5);
  using Ids = std::vector<std::int32_t>;
  EXPECT_EQ(batch.tokens, 10);
  EXPECT_EQ(batch.documents, 3);
  EXPECT_EQ(batch.capacity(), 12);
  EXPECT_EQ(batch.max_documents(), 5);
  EXPECT_EQ(batch.ids, (Ids{20, 4, 30, 31, 4, 5, 20, 21, 4, 30, 0, 0}));
  EXPECT_EQ(batch.positions, (Ids{0, 1, 2, 3, 0, 0, 1, 2, 3, 4, 0, 0}));
  EXPECT_EQ(batch.cu_seqlens, (Ids{0, 4, 5, 10, 10, 10}));
  EXPECT_EQ(batch.prefix_lengths, (Ids{2, 1, 4, 0, 0}));
  EXPECT_EQ(batch.target_rows, (Ids{1, 2, 3, 4, 8, 9}));
  EXPECT_EQ(batch.targets, (Ids{30, 31, 3, 30, 30, 30}));
  EXPECT_EQ(batch.order, (Ids{1, 4, 8, 5, 0, 6, 7, 2, 9, 3, 10, 11}));
  EXPECT_EQ(batch.examples, (std::vector<std::int64_t>{70, 71, 72}));
  EXPECT_EQ(count_targets(std::vector<Batch>{batch, batch}), 12);
  EXPECT_THROW(make_batch(examples, std::vector<std::int64_t>{70, 71, 72}, 9, 5), Error);
  EXPECT_THROW(make_batch(examples, std::vector<std::int64_t>{70, 71, 72}, 12, 2), Error);
}

}  // namespace
}  // namespace unfurl::tests
