#include "train/trainer/spikes.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <limits>
#include <set>

#include "core/files.h"
#include "tests/train/data/fixture.h"
#include "tests/train/trainer/fixture.h"
#include "train/report/metrics.h"
#include "train/trainer/checkpoint.h"
#include "train/trainer/trainer.h"

namespace unfurl::train {
namespace {

namespace fs = std::filesystem;
using tests::tiny_recipe;

constexpr double kInfinite = std::numeric_limits<double>::infinity();

TEST(NormWindow, ComparesWithTheStepsBeforeTheLast) {
  NormWindow window(4, 3);
  const std::vector<double> norms = {1, 3, 1, 3, 100};
  for (Index step = 1; step <= 5; ++step) {
    EXPECT_EQ(window.limit(step), kInfinite) << step;
    window.add(step, norms[static_cast<std::size_t>(step - 1)], kInfinite);
  }
  EXPECT_DOUBLE_EQ(window.limit(6), 2 + 3 * 1);  // not of step 5
  EXPECT_EQ(window.limit(5), kInfinite);         // when step 4 was not known either
  EXPECT_DOUBLE_EQ(window.limit(7), 26.75 + 3 * std::sqrt((23.75 * 23.75 * 2 + 25.75 * 25.75 + 73.25 * 73.25) / 4));
  // An outlier counts as its limit, and what is no number not at all.
  window.add(6, 50, 5);
  window.add(7, std::numeric_limits<double>::quiet_NaN(), 5);
  window.add(8, kInfinite, 5);
  EXPECT_DOUBLE_EQ(window.limit(10), (1 + 3 + 100 + 5) / 4.0 + 3 * std::sqrt((10035 - 109 * 109 / 4.0) / 4));
  NormWindow read(4, 3);
  read.read(Json::parse(window.to_json().dump()));
  EXPECT_EQ(read.limit(10), window.limit(10));
  EXPECT_THROW(read.read(Json::parse("[[1, 2, 3]]")), Error);
}

TEST(NormWindow, NormsThatHardlyDifferLeaveRoom) {
  NormWindow window(3, 4);
  for (Index step = 1; step <= 3; ++step) window.add(step, 2, kInfinite);
  EXPECT_DOUBLE_EQ(window.limit(5), 2 * (1 + 4 * 0.05));
  EXPECT_EQ(NormWindow(3, 0).limit(5), kInfinite);
}

struct Ran {
  TrainOutcome outcome;
  std::string messages, failure;
};

Ran train(const Recipe& recipe) {
  Ran ran;
  testing::internal::CaptureStderr();
  try {
    ran.outcome = train_stage(recipe);
  } catch (const Error& error) {
    ran.failure = error.what();
  }
  ran.messages = testing::internal::GetCapturedStderr();
  return ran;
}

std::vector<Json> lines(const fs::path& run, const std::string& kind) {
  std::vector<Json> out;
  for (const Json& line : read_metrics(run / "metrics.jsonl")) {
    if (line.at("kind").as_string() == kind) out.push_back(line);
  }
  return out;
}

std::string weights(const fs::path& run, Index step) {
  return read_file(checkpoint_path(run, step) / "model.safetensors");
}

class SpikesTest : public testing::Test {
 protected:
  /// A learning rate that is too great, and limits close to the mean: some steps are above them.
  std::vector<std::string> sets(const std::string& policy) const {
    return {"train.steps=30",           "train.spikes.policy=" + policy,
            "train.spikes.window=2",    "train.spikes.threshold=1.5",
            "train.checkpoint_every=5", "train.keep=100",
            "train.validate_every=0",   "optimizer.learning_rate=0.1",
            "schedule.name=constant"};
  }
  const tests::TemporaryFolder folder;
  const fs::path a = folder / "a", b = folder / "b";
};

TEST_F(SpikesTest, AreNotedWithTheirPairs) {
  const Ran ran = train(tiny_recipe(a, sets("continue")));
  ASSERT_EQ(ran.failure, "");
  const auto spikes = lines(a, "spike");
  ASSERT_GT(spikes.size(), 0u);
  std::set<Index> steps;
  for (const Json& line : spikes) {
    steps.insert(line.at("step").as_integer());
    EXPECT_GT(line.at("gradient_norm").as_number(), line.at("limit").as_number());
    EXPECT_GT(line.at("pairs").as_array().size(), 3u);
    EXPECT_NE(line.at("pairs").as_array()[0].as_string(), "");
    EXPECT_TRUE(tests::has(ran.messages, fmt::format("step {}: a spike", line.at("step").as_integer())));
  }
  NormWindow window(2, 1.5);
  for (const Json& line : lines(a, "step")) {
    const Index step = line.at("step").as_integer();
    const double norm = line.at("gradient_norm").as_number(), limit = window.limit(step);
    EXPECT_EQ(steps.contains(step), norm > limit) << step;
    window.add(step, norm, limit);
  }
  const Json state = Json::parse(read_file(checkpoint_path(a, 30) / "state.json"));
  EXPECT_EQ(state.at("updates").as_integer(), 30);
}

TEST_F(SpikesTest, AreSkippedAlikeWhereARunGoesOn) {
  const Ran ran = train(tiny_recipe(a, sets("skip")));
  ASSERT_EQ(ran.failure, "");
  const auto skipped = static_cast<Index>(lines(a, "spike").size());
  ASSERT_GT(skipped, 0);
  EXPECT_EQ(Json::parse(read_file(checkpoint_path(a, 30) / "state.json")).at("updates").as_integer(), 30 - skipped);
  fs::copy(a, b, fs::copy_options::recursive);
  for (const Index step : {15, 20, 25, 30}) fs::remove_all(checkpoint_path(b, step));
  ASSERT_EQ(train(tiny_recipe(b, sets("skip"))).failure, "");
  EXPECT_TRUE(weights(a, 30) == weights(b, 30));
  EXPECT_EQ(tests::losses(a), tests::losses(b));
}

#ifdef UNFURL_HOST_CUDA
TEST_F(SpikesTest, AreTheSameOnADeviceThatIsNotWaitedFor) {
  std::vector<std::vector<Index>> found;
  for (const std::string device : {"cpu", "host_cuda"}) {
    fs::remove_all(a);
    std::vector<std::string> all = sets("skip");
    for (const char* set : {"precision=f32", "train.steps=10", "train.spikes.threshold=0.1"}) all.emplace_back(set);
    all.push_back("device=" + device);
    ASSERT_EQ(train(tiny_recipe(a, all)).failure, "");
    found.emplace_back();
    for (const Json& line : lines(a, "spike")) found.back().push_back(line.at("step").as_integer());
  }
  EXPECT_GT(found[0].size(), 0u);
  EXPECT_EQ(found[0], found[1]);
}
#endif

TEST_F(SpikesTest, TheRunGoesBackAndLeavesTheirPairsOut) {
  // With so low a threshold there is always a next spike: the run ends, once it has gone back often enough.
  const Ran always = train(tiny_recipe(a, sets("rewind")));
  const auto first = lines(a, "rewind");
  ASSERT_GT(first.size(), 0u);
  for (const Json& line : first) {
    EXPECT_LT(line.at("step").as_integer(), line.at("from").as_integer());
    EXPECT_EQ(line.at("step").as_integer() % 5, 0);
  }
  // A threshold that the steps before the first rewind alone would pass.
  fs::remove_all(a);
  std::vector<std::string> gentle = sets("rewind");
  for (std::string& set : gentle) {
    if (set.starts_with("train.spikes.threshold")) set = "train.spikes.threshold=2.5";
  }
  gentle.push_back("train.spikes.rewinds=50");
  const Ran ran = train(tiny_recipe(a, gentle));
  ASSERT_EQ(ran.failure, "") << ran.messages;
  EXPECT_TRUE(ran.outcome.finished);
  const auto steps = lines(a, "step");
  ASSERT_EQ(steps.size(), 30u);  // those before going back are gone
  for (std::size_t i = 0; i < 30; ++i) EXPECT_EQ(steps[i].at("step").as_integer(), static_cast<Index>(i) + 1);
  ASSERT_GT(lines(a, "rewind").size(), 0u) << ran.messages;
  EXPECT_TRUE(tests::has(ran.messages, "back to step ")) << ran.messages;
  // Stopped anywhere, it goes the same way again.
  for (const Index stop : {5, 15}) {
    SCOPED_TRACE(stop);
    fs::remove_all(b);
    fs::copy(a, b, fs::copy_options::recursive);
    for (Index step = stop + 1; step <= 30; ++step) fs::remove_all(checkpoint_path(b, step));
    ASSERT_EQ(train(tiny_recipe(b, gentle)).failure, "");
    EXPECT_TRUE(weights(a, 30) == weights(b, 30));
    EXPECT_EQ(tests::losses(a), tests::losses(b));
  }
}

TEST_F(SpikesTest, GoingBackAgainAndAgainEndsTheRun) {
  std::vector<std::string> sets = this->sets("rewind");
  sets.push_back("train.spikes.rewinds=1");
  sets.push_back("train.checkpoint_every=25");  // no checkpoint between
  for (std::string& set : sets) {
    if (set.starts_with("train.steps")) set = "train.steps=200";
    if (set.starts_with("train.spikes.threshold")) set = "train.spikes.threshold=0.5";
  }
  const Ran ran = train(tiny_recipe(a, sets));
  EXPECT_TRUE(tests::has(ran.failure, "a spike again, 1 time after going back to ")) << ran.failure << ran.messages;
}

}  // namespace
}  // namespace unfurl::train
