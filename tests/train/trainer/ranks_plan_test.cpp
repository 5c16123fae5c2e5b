#include "train/trainer/ranks_plan.h"

#include <gtest/gtest.h>

#include "tests/support/subprocess.h"
#include "tests/train/data/fixture.h"
#include "tests/train/trainer/fixture.h"
#include "train/trainer/plan.h"

namespace unfurl::train {
namespace {

using tests::has;
using tests::message_of;

Recipe recipe(const std::vector<std::string>& more = {}) {
  std::vector<std::string> sets = {"batch.slots=4", "model.width=128", "model.head_dim=64", "model.ff_width=256"};
  sets.insert(sets.end(), more.begin(), more.end());
  return tests::tiny_recipe("unused", sets);
}

TEST(RanksPlan, AddsUpWhatAStepComputesAndSends) {
  const Cluster cluster{.gpu = "some",
                        .peak = 1e12,
                        .share = 0.5,
                        .ranks_per_node = 4,
                        .node_bandwidth = 1e9,
                        .network_bandwidth = 1e8,
                        .latency = 1e-3};
  const std::vector<RanksPlan> plans = plan_ranks(recipe(), 8, cluster);
  ASSERT_EQ(plans.size(), 4u);
  const RunPlan one = plan_run(recipe(), false);
  const auto weights = static_cast<double>(one.trained);
  EXPECT_EQ(plans[0].tokens_per_step, one.tokens_per_step);
  EXPECT_EQ(plans[0].bytes_sent, 0);
  EXPECT_EQ(plans[0].communication_seconds, 0);
  EXPECT_DOUBLE_EQ(plans[0].compute_seconds, static_cast<double>(one.tokens_per_step) * one.flops_per_token / 0.5e12);
  // Half of the gradients in f32 and of the weights in bf16, within a node.
  EXPECT_DOUBLE_EQ(plans[1].bytes_sent, weights / 2 * 6);
  // Every bucket takes a message there and one back.
  EXPECT_EQ(plans[1].buckets, 7);
  EXPECT_DOUBLE_EQ(plans[1].communication_seconds, weights / 2 * 6 / 1e9 + 7 * 2e-3);
  EXPECT_DOUBLE_EQ(plans[1].compute_seconds, plans[0].compute_seconds / 2);
  // Of seven others, four are on another node. The batch has a slot a rank.
  EXPECT_EQ(plans[3].slots, 8);
  EXPECT_EQ(plans[3].tokens_per_step, 2 * one.tokens_per_step);
  EXPECT_DOUBLE_EQ(plans[3].communication_seconds, weights * 7 / 8 * 6 * 4 / 7 / 1e8 + 7 * 14e-3);
  // Sums run beside the backward pass of the last micro-batch, the way back of the weights does not.
  const double beside = 2.0 / 3 * static_cast<double>(recipe().batch.tokens) * one.flops_per_token / 0.5e12;
  const double sums = weights / 2 * 4 / 1e9 + 7e-3, back = weights / 2 * 2 / 1e9 + 7e-3;
  EXPECT_EQ(plans[0].exposed_seconds, 0);
  ASSERT_GT(sums, beside);
  EXPECT_NEAR(plans[1].exposed_seconds, sums - beside + back, 1e-9);
  EXPECT_DOUBLE_EQ(plans[1].step_seconds(), plans[1].compute_seconds + plans[1].exposed_seconds);
  EXPECT_DOUBLE_EQ(plans[1].serial_step_seconds(), plans[1].compute_seconds + plans[1].communication_seconds);
  const RanksPlan behind = plan_ranks(recipe({"train.overlap=false"}), 2, cluster)[1];
  EXPECT_EQ(behind.exposed_seconds, behind.communication_seconds);
  // Where there is time enough, the last bucket is left: here of one block.
  Cluster near = cluster;
  near.peak = 1e10;
  EXPECT_NEAR(plan_ranks(recipe({"train.bucket_blocks=1"}), 2, near)[1].exposed_seconds,
              65536.0 / 2 * 4 / 1e9 + 1e-3 + back, 1e-9);
  // Each rank has its part of the optimiser's state, and fewer sums of slots.
  EXPECT_LT(plans[1].memory, plans[0].memory);
  EXPECT_LT(plans[2].memory, plans[1].memory);
  const double sharded = plan_ranks(recipe(), 2, cluster)[1].memory;
  EXPECT_LT(sharded, plan_ranks(recipe({"optimizer.name=adafactor"}), 2, cluster)[0].memory + 8 * weights);
}

/// By hand: 1,131,976,704 weights are 17,273 blocks of 65,536, in buckets of 320, 1,024 and 3,072 blocks, and one of
/// what does not decay.
TEST(RanksPlan, OfPalm1bOnManyGpus) {
  const Recipe large = tests::tiny_recipe(
      "unused", {"model={preset: palm-1b, context: 256, vocab_size: 32000}", "tokenizer.path=", "batch.slots=8"});
  const auto plans = plan_ranks(large, 1024, {});
  // 7/8 of six bytes a weight at 450 GB/s, and 55 buckets x 2 x 7 messages of 10 us.
  EXPECT_EQ(plans[3].buckets, 55);
  EXPECT_NEAR(plans[3].communication_seconds, 0.01321 + 0.0077, 1e-5);
  // 63/64 of them, eight of nine to other nodes at 50 GB/s, and 18 x 2 x 63 messages.
  EXPECT_EQ(plans[6].buckets, 18);
  EXPECT_NEAR(plans[6].communication_seconds, 0.11886 + 0.02268, 1e-5);
  // 1,023/1,024 of them, 1,016 of 1,023 to other nodes, and 7 x 2 x 1,023 messages.
  EXPECT_EQ(plans[10].buckets, 7);
  EXPECT_NEAR(plans[10].communication_seconds, 0.13478 + 0.14322, 1e-5);
}

TEST(RanksPlan, AHostThatIsSlowerThanItsGpuIsWaitedFor) {
  const RanksPlan fast = plan_ranks(recipe(), 2, {})[1], slow = plan_ranks(recipe(), 2, {.host_rate = 1e3})[1];
  EXPECT_DOUBLE_EQ(slow.step_seconds(), static_cast<double>(slow.tokens_per_step) / 1e3);
  EXPECT_DOUBLE_EQ(slow.serial_step_seconds(), slow.step_seconds());
  EXPECT_EQ(slow.exposed_seconds, fast.exposed_seconds);
  const std::vector<RanksPlan> hosts = plan_ranks(recipe(), 16, {});  // of eight ranks
  EXPECT_DOUBLE_EQ(hosts[4].host_seconds, static_cast<double>(hosts[4].tokens_per_step) / 2 / 19e6);
}

TEST(RanksPlan, ARankHoldsItsPartOfTheOptimisersState) {
  for (const char* device : {"device=cpu", "device=cuda"}) {
    const Recipe large =
        tests::tiny_recipe("unused", {"model={preset: palm-25m, context: 96}", "batch.slots=8", device});
    const auto held = [&](const char* name, int ranks) {
      return static_cast<double>(plan_run(large, false, ranks).allocator_peak_by_name.at(name));
    };
    std::vector<const char*> names = {"optimizer"};
    if (large.device == DeviceChoice::cuda) names.push_back("master weights");  // of bf16
    for (const char* name : names) {
      const double whole = held(name, 1);
      EXPECT_GT(whole, 2.5e7 * sizeof(float) * 0.4) << name;
      for (const int ranks : {2, 4, 8}) {
        EXPECT_NEAR(held(name, ranks) / whole, 1.0 / ranks, 0.05 / ranks) << device << " " << name << " " << ranks;
      }
    }
  }
}

/// From the start: the greatest need is a step's, as the whole of the masters never is in the device's memory.
TEST(RanksPlan, MastersOfOtherRanksTakeNoMemory) {
  const Recipe large = tests::tiny_recipe(
      "unused", {"model={preset: palm-25m, context: 96}", "batch.slots=8", "batch.tokens=96", "device=cuda"});
  const RunPlan one = plan_run(large, false), eight = plan_run(large, false, 8);
  const auto weights = static_cast<double>(one.trained);
  const double less = static_cast<double>(one.allocator_peak) - static_cast<double>(eight.allocator_peak);
  // Of masters and two moments seven eighths, and the three sums of slots that one rank needs.
  EXPECT_NEAR(less / weights, 7.0 / 8 * 12 + 3 * 4, 0.2);
}

TEST(RanksPlan, MistakesAreOneLine) {
  EXPECT_TRUE(has(message_of<UserError>([] { plan_ranks(recipe(), 3, {}); }), "--ranks 3 is no power of two"));
  const std::string unknown = message_of<UserError>([] { plan_ranks(recipe(), 2, {.gpu = "Voodoo2"}); });
  EXPECT_TRUE(has(unknown, "\"Voodoo2\"") && has(unknown, "--peak")) << unknown;
}

TEST(RanksPlan, SaysWhatItAssumes) {
  const tests::TemporaryFolder folder;
  tests::spill(folder / "tiny.yaml", dump_recipe(recipe()));
  const auto finished = tests::run_process({tests::unfurl_binary(), "plan", (folder / "tiny.yaml").string(), "--ranks",
                                            "16", "--network-bandwidth", "25", "--gpus-per-node", "4"});
  ASSERT_EQ(finished.code, 0) << finished.error;
  EXPECT_TRUE(has(finished.out, "assumed, not measured: H200") && has(finished.out, "25 GB/s to other nodes; ") &&
              has(finished.out, "4 a node") && has(finished.out, "exposed s"))
      << finished.out;
}

}  // namespace
}  // namespace unfurl::train
