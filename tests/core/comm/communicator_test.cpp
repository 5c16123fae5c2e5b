#include "core/comm/communicator.h"

#include <gtest/gtest.h>

#include <cmath>

#include "core/error.h"
#include "tests/support/rank_threads.h"

namespace unfurl {
namespace {

using tests::on_ranks;

/// Values of many sizes, so that the order of a sum shows in its bits.
std::vector<float> values(int rank, Index count) {
  std::vector<float> out(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < out.size(); ++i) {
    out[i] = std::sin(static_cast<float>(i * 7 + static_cast<std::size_t>(rank) * 13 + 1)) *
             std::pow(10.0F, static_cast<float>((i + static_cast<std::size_t>(rank)) % 7));
  }
  return out;
}

TEST(ShardsTest, CoverEverythingInWholeBlocks) {
  for (const Index count : {Index{0}, Index{1}, Index{65536}, Index{65537}, Index{1000000}}) {
    for (const int ranks : {1, 2, 3, 4, 8}) {
      Index at = 0;
      for (int rank = 0; rank < ranks; ++rank) {
        const Range part = Shards{count, ranks, rank}.own();
        EXPECT_EQ(part.begin, at);
        EXPECT_TRUE(part.begin % kernels::kNormBlock == 0 || part.begin == count);
        at = part.end;
      }
      EXPECT_EQ(at, count);
    }
  }
}

TEST(CommunicatorTest, OneRankNeedsNobody) {
  Communicator alone;
  float x = 3;
  alone.reduce_scatter("sums", &x, {1}).wait();
  alone.all_gather("values", &x, sizeof x, {1}).wait();
  EXPECT_EQ(x, 3);
  EXPECT_EQ(alone.gather_texts("texts", "a"), std::vector<std::string>{"a"});
}

TEST(CommunicatorTest, SumsFollowTheTreeOfRanks) {
  const Index count = 1003;
  for (const int ranks : {2, 4, 8}) {
    std::vector<std::vector<float>> all;
    for (int rank = 0; rank < ranks; ++rank) all.push_back(values(rank, count));
    for (std::size_t width = 1; width < all.size(); width *= 2) {
      for (std::size_t r = 0; r + width < all.size(); r += 2 * width) {
        for (std::size_t i = 0; i < all[r].size(); ++i) all[r][i] += all[r + width][i];
      }
    }
    on_ranks(ranks, [&](Communicator& communicator) {
      std::vector<float> mine = values(communicator.rank(), count);
      const Shards shards{count, ranks, communicator.rank(), 64};
      communicator.reduce_scatter("sums", mine.data(), shards).wait();
      communicator.all_gather("values", mine.data(), sizeof(float), shards).wait();
      EXPECT_EQ(mine, all[0]) << "rank " << communicator.rank() << " of " << ranks;
    });
  }
}

TEST(CommunicatorTest, WorkIsDoneInOrderWhileTheCallerGoesOn) {
  on_ranks(3, [](Communicator& communicator) {
    std::vector<std::vector<float>> buckets;
    std::vector<Work> works;
    for (int i = 0; i < 20; ++i) buckets.push_back(values(communicator.rank() + i, 100 + i));
    for (auto& bucket : buckets) {
      works.push_back(communicator.reduce_scatter("sums", bucket.data(),
                                                  {static_cast<Index>(bucket.size()), 3, communicator.rank(), 8}));
    }
    for (const Work& work : works) work.wait();
    for (int i = 0; i < 20; ++i) {
      const Shards shards{100 + i, 3, communicator.rank(), 8};
      for (Index at = shards.own().begin; at < shards.own().end; ++at) {
        const auto of = [&](int rank) { return values(rank + i, 100 + i)[static_cast<std::size_t>(at)]; };
        EXPECT_EQ(buckets[static_cast<std::size_t>(i)][static_cast<std::size_t>(at)], of(0) + (of(1) + of(2)));
      }
    }
  });
}

TEST(CommunicatorTest, BroadcastReachesAllFromAnyRoot) {
  for (const int ranks : {2, 3, 7}) {
    on_ranks(ranks, [&](Communicator& communicator) {
      for (int root = 0; root < ranks; ++root) {
        std::vector<float> x = values(communicator.rank(), 33);
        communicator.broadcast("values", x.data(), x.size() * sizeof(float), root).wait();
        EXPECT_EQ(x, values(root, 33));
      }
    });
  }
}

TEST(CommunicatorTest, GathersTextsOfAnyLength) {
  on_ranks(4, [](Communicator& communicator) {
    const auto of = [](int rank) { return std::string(static_cast<std::size_t>(rank * 1000), 'a'); };
    const auto texts = communicator.gather_texts("texts", of(communicator.rank()));
    for (int rank = 0; rank < 4; ++rank) EXPECT_EQ(texts[static_cast<std::size_t>(rank)], of(rank));
  });
}

TEST(CommunicatorTest, ASilentRankIsNamedAndNothingWorksAfterwards) {
  on_ranks(
      2,
      [](Communicator& communicator) {
        if (communicator.rank() == 1) return;
        float x[2] = {1, 2};
        try {
          communicator.all_gather("gathering weights", x, sizeof(float), {2, 2, 0, 1}).wait();
          ADD_FAILURE() << "nobody answered";
        } catch (const Error& error) {
          EXPECT_EQ(std::string(error.what()).find("gathering weights: nothing has come from rank 1 for 0.1 seconds"),
                    0U)
              << error.what();
        }
        EXPECT_THROW(communicator.barrier("later"), Error);
      },
      0.1);
}

TEST(CommunicatorTest, RanksThatSeeTheSameGpusTakeOneEach) {
  // Two machines of two and three GPUs, and two ranks that their launcher has given one GPU each.
  const std::vector<std::string> visible = {"a b", "a b", "c d e", "a b", "c d e", "f", "g"};
  std::vector<int> numbers;
  for (int rank = 0; rank < 7; ++rank) numbers.push_back(gpu_of_rank(visible, rank));
  EXPECT_EQ(numbers, (std::vector<int>{0, 1, 0, 2, 1, 0, 0}));
}

TEST(CommunicatorTest, AFailureToStartIsThrown) {
  EXPECT_THROW(Communicator([]() -> std::unique_ptr<Transport> { fail("no MPI here"); }, 1), Error);
}

}  // namespace
}  // namespace unfurl
