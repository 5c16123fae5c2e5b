// Collectives over the memory of host_cuda, by a fake NCCL (tests/support/fake_nccl.cpp).
#include "core/comm/nccl.h"

#include <gtest/gtest.h>

#ifdef UNFURL_HOST_CUDA

#include <cmath>
#include <cstdlib>
#include <mutex>

#include "core/comm/agree.h"
#include "core/device.h"
#include "core/error.h"
#include "core/tensor.h"
#include "kernels/elementwise.h"
#include "kernels/host/engine.h"
#include "tests/support/rank_threads.h"
#include "tests/support/temporary_folder.h"

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

/// An environment variable for the length of a scope.
class Variable {
 public:
  Variable(const char* name, const std::string& value) : name_(name) { ::setenv(name, value.c_str(), 1); }
  ~Variable() { ::unsetenv(name_); }
  Variable(const Variable&) = delete;
  Variable& operator=(const Variable&) = delete;

 private:
  const char* name_;
};

class NcclTest : public testing::Test {
 protected:
  static kernels::host::Settings one_worker() {
    kernels::host::Settings out = kernels::host::settings();
    out.workers = 1;
    return out;
  }
  tests::TemporaryFolder folder_;
  Variable library_{"UNFURL_NCCL", FAKE_NCCL};
  Variable files_{"FAKE_NCCL_FOLDER", folder_.path().string()};
  kernels::host::SettingsScope settings_{one_worker()};  // ranks are threads, and each launches kernels
};

TEST_F(NcclTest, IsForGpusAndForTests) {
  EXPECT_TRUE(NcclCommunicator::is_for(Device::cuda));
  EXPECT_TRUE(NcclCommunicator::is_for(Device::host_cuda));
  EXPECT_FALSE(NcclCommunicator::is_for(Device::cpu));
}

TEST_F(NcclTest, SumsAlongTheTreeHaveTheBitsOfTheCommunicator) {
  for (const int ranks : {2, 3, 4}) {
    for (const Index count : {Index{1}, Index{64}, Index{1003}, Index{4 * 3 * 64}}) {
      on_ranks(ranks, [&](Communicator& communicator) {
        const Shards shards{count, ranks, communicator.rank(), 64};
        std::vector<float> expected = values(communicator.rank(), count), mine = expected;
        communicator.reduce_scatter("sums", expected.data(), shards).wait();
        communicator.all_gather("values", expected.data(), sizeof(float), shards).wait();
        NcclCommunicator nccl(communicator, Device::host_cuda, {.deterministic = true, .piece = 100});
        EXPECT_EQ(nccl.description(), "GPUs over NCCL 2.28.9, sums along the tree of ranks");
        nccl.reduce_scatter("sums", mine.data(), shards).wait();
        nccl.all_gather("values", mine.data(), sizeof(float), shards).wait();
        nccl.finish();
        EXPECT_EQ(mine, expected) << "rank " << communicator.rank() << " of " << ranks << ", " << count;
      });
    }
  }
}

TEST_F(NcclTest, SumsInTheLibrarysOrderAreCloseOnShardsOfAnySize) {
  for (const int ranks : {2, 3, 4}) {
    for (const Index count : {Index{1}, Index{1003}, Index{4 * 3 * 64}}) {
      on_ranks(ranks, [&](Communicator& communicator) {
        const Shards shards{count, ranks, communicator.rank(), 64};
        std::vector<float> mine = values(communicator.rank(), count);
        NcclCommunicator nccl(communicator, Device::host_cuda, {});
        nccl.reduce_scatter("sums", mine.data(), shards).wait();
        nccl.all_gather("values", mine.data(), sizeof(float), shards).wait();
        nccl.finish();
        std::vector<std::vector<float>> all;
        for (int rank = 0; rank < ranks; ++rank) all.push_back(values(rank, count));
        for (std::size_t i = 0; i < mine.size(); ++i) {
          double sum = 0, size = 0;
          for (const std::vector<float>& theirs : all) {
            sum += static_cast<double>(theirs[i]);
            size += std::abs(static_cast<double>(theirs[i]));
          }
          ASSERT_NEAR(static_cast<double>(mine[i]), sum, 4e-7 * size) << i;
        }
      });
    }
  }
}

TEST_F(NcclTest, GathersElementsOfAnySize) {
  on_ranks(3, [&](Communicator& communicator) {
    NcclCommunicator nccl(communicator, Device::host_cuda, {});
    for (const Index count : {2, 7, 9}) {
      const Shards shards{count, 3, communicator.rank(), 1};
      std::vector<double> sums(static_cast<std::size_t>(count), -1);
      std::vector<std::uint16_t> halves(sums.size(), 0);
      for (Index i = shards.own().begin; i < shards.own().end; ++i) {
        sums[static_cast<std::size_t>(i)] = 1.0 / static_cast<double>(i + 1);
        halves[static_cast<std::size_t>(i)] = static_cast<std::uint16_t>(i + 1);
      }
      const Work first = nccl.all_gather("sums", sums.data(), sizeof(double), shards);
      nccl.all_gather("halves", halves.data(), 2, shards).wait();
      first.wait();
      for (std::size_t i = 0; i < sums.size(); ++i) {
        EXPECT_EQ(sums[i], 1.0 / static_cast<double>(i + 1));
        EXPECT_EQ(halves[i], i + 1);
      }
    }
  });
}

TEST_F(NcclTest, WaitsForWhatWasQueuedBefore) {
  kernels::host::Settings late = kernels::host::settings();
  late.streams = kernels::host::Streams::late;
  const kernels::host::SettingsScope scope(late);
  for (const bool deterministic : {true, false}) {
    on_ranks(2, [&](Communicator& communicator) {
      const Shards shards{2, 2, communicator.rank(), 1};
      const std::vector<float> queued = {1, 2};
      std::vector<float> mine = {10, 20};
      NcclCommunicator nccl(communicator, Device::host_cuda, {.deterministic = deterministic});
      // One queue for the ranks, as they are of one process: neither may be waited for through it.
      device_queue<kernels::HostCudaQueue>().copy(mine.data(), queued.data(), 2 * sizeof(float));
      nccl.reduce_scatter("sums", mine.data(), shards);
      nccl.all_gather("values", mine.data(), sizeof(float), shards);
      nccl.finish();
      EXPECT_EQ(mine, (std::vector<float>{2, 4})) << deterministic << " " << communicator.rank();
    });
  }
}

/// Gradients that are whole in the middle of a graph are summed while the rest of it has not run.
TEST_F(NcclTest, SumsBehindAMarkDoNotWaitForTheRest) {
  kernels::host::Settings late = kernels::host::settings();
  late.streams = kernels::host::Streams::late;
  const kernels::host::SettingsScope scope(late);
  const auto& queue = device_queue<kernels::HostCudaQueue>();
  for (const bool deterministic : {true, false}) {
    std::mutex one_by_one;  // the ranks have one queue
    int launched = 0;
    on_ranks(2, [&](Communicator& communicator) {
      const Shards shards{2, 2, communicator.rank(), 1};
      const std::vector<float> gradients = {1, 2}, before = {10, 20}, others = {7, 7};
      std::vector<float> mine = {-1, -1}, sum = {-1, -1}, rest = {0, 0};
      NcclCommunicator nccl(communicator, Device::host_cuda, {.deterministic = deterministic});
      nccl.reduce_scatter("sums", sum.data(), shards);  // takes what memory it needs
      nccl.finish();
      kernels::HostCudaQueue::Graph graph;
      {
        const std::lock_guard lock(one_by_one);
        queue.begin_capture();
        queue.copy(mine.data(), gradients.data(), 2 * sizeof(float));
        nccl.mark(1);
        queue.copy(rest.data(), others.data(), 2 * sizeof(float));
        graph = queue.end_capture();
      }
      communicator.barrier("captured");
      for (const float times : {1.0F, 2.0F}) {
        std::fill(rest.begin(), rest.end(), 0.0F);
        bool last = false;
        {
          const std::lock_guard lock(one_by_one);
          queue.copy(sum.data(), before.data(), 2 * sizeof(float));
          queue.launch(graph);
          last = ++launched % 2 == 0;
        }
        communicator.barrier("launched");
        nccl.behind(1, [&] {
          on_device(Device::host_cuda, [&](const auto& its) {
            EXPECT_NE(&its, &queue);
            kernels::add_scaled(its, sum.data(), static_cast<const float*>(mine.data()), times, 2);
          });
          nccl.reduce_scatter("sums", sum.data(), shards);
          nccl.all_gather("values", sum.data(), sizeof(float), shards);
        });
        on_device(Device::host_cuda, [&](const auto& its) { EXPECT_EQ(&its, &queue); });
        nccl.finish();
        EXPECT_EQ(sum, (std::vector<float>{2 * (10 + times), 2 * (20 + 2 * times)}));
        if (last) {
          EXPECT_EQ(rest, (std::vector<float>{0, 0}));
        }
        communicator.barrier("compared");
        synchronize(Device::host_cuda);
        EXPECT_EQ(rest, others);
        communicator.barrier("done");
      }
    });
  }
}

/// What each rank throws from two collectives, of which it starts so many, and whether in agreement.
struct Thrown {
  std::string text;
  bool agreed = false;
};
std::vector<Thrown> failures(const std::vector<int>& started, double timeout) {
  const int ranks = static_cast<int>(started.size());
  std::vector<Thrown> out(started.size());
  on_ranks(
      ranks,
      [&](Communicator& communicator) {
        const auto rank = static_cast<std::size_t>(communicator.rank());
        try {
          NcclCommunicator nccl(communicator, Device::host_cuda, {});
          std::vector<float> mine = values(communicator.rank(), 1000);
          const Shards shards{1000, ranks, communicator.rank(), 64};
          if (started[rank] > 0) nccl.reduce_scatter("sum of the gradients", mine.data(), shards).wait();
          if (started[rank] > 1) nccl.all_gather("updated weights", mine.data(), sizeof(float), shards).wait();
          nccl.finish();
        } catch (const Error& error) {
          out[rank] = {error.what(), dynamic_cast<const Agreed*>(&error) != nullptr};
        }
      },
      timeout);
  return out;
}

TEST_F(NcclTest, ACollectiveThatHangsIsNamedAndEndsEveryRank) {
  const Variable hang("FAKE_NCCL_HANG", "1:2");
  for (const Thrown& thrown : failures({2, 2, 2}, 0.5)) {
    EXPECT_EQ(thrown.text,
              "updated weights (collective 2 over NCCL) has not ended after 0.5 seconds on every rank; start again, "
              "and the run goes on from its newest checkpoint");
    EXPECT_TRUE(thrown.agreed);
  }
}

TEST_F(NcclTest, ARankThatDoesNotComeIsNamed) {
  const std::vector<Thrown> thrown = failures({2, 1, 2}, 0.5);
  EXPECT_EQ(thrown[1].text, "");
  EXPECT_EQ(
      thrown[0].text,
      "updated weights (collective 2 over NCCL) has not ended after 0.5 seconds on ranks 0 and 2; rank 1 does not "
      "answer: it hangs, is gone, or has not come so far; start again, and the run goes on from its newest "
      "checkpoint");
  EXPECT_EQ(thrown[2].text, thrown[0].text);
  EXPECT_FALSE(thrown[0].agreed);  // and speaks for rank 2
  EXPECT_TRUE(thrown[2].agreed);
}

TEST_F(NcclTest, AnErrorOfTheLibraryIsTold) {
  const Variable error("FAKE_NCCL_ERROR", "1:1");
  const std::string text = failures({1, 1}, 0.5)[1].text;
  EXPECT_NE(text.find("sum of the gradients (collective 1 over NCCL) failed: NCCL: fake remote error on rank 1"),
            std::string::npos)
      << text;
}

TEST(NcclFailure, SaysWhatEachRankKnows) {
  EXPECT_EQ(
      failure_of_ranks({"a hangs", {}, "a hangs", "b hangs", {}}),
      "a hangs on ranks 0 and 2; b hangs on rank 3; ranks 1 and 4 do not answer: they hang, are gone, or have not "
      "come so far; start again, and the run goes on from its newest checkpoint");
}

}  // namespace
}  // namespace unfurl

#endif
