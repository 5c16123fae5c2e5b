// Runs of several ranks, started by mpirun as a user does.
#include <gtest/gtest.h>

#include <sstream>

#include "core/files.h"
#include "tests/support/subprocess.h"
#include "tests/support/temporary_folder.h"
#include "tests/train/trainer/fixture.h"
#include "train/report/metrics.h"

namespace unfurl::train {
namespace {

namespace fs = std::filesystem;
using tests::Finished;

constexpr const char* kMpirun = "/usr/bin/mpirun";

/// Threads, as ranks share the cores; and no look for leaks, as MPI leaves memory at its end.
const std::vector<std::string> kEnvironment = {"UNFURL_THREADS=1", "ASAN_OPTIONS=detect_leaks=0",
                                               "OMPI_ALLOW_RUN_AS_ROOT=1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1"};

class RanksTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!fs::exists(kMpirun)) GTEST_SKIP() << kMpirun << " is not there: scripts/setup.sh installs it";
    // Some 400,000 weights, so that every one of four ranks has a part of them.
    std::string text = tests::tiny_recipe_text(run());
    const std::string model = "model: {width: 32, layers: 2, heads: 2, head_dim: 16, ff_width: 48,";
    text.replace(text.find(model), model.size(),
                 "model: {width: 128, layers: 2, heads: 2, head_dim: 32, ff_width: 256, kv_heads: 1,");
    write_file(recipe(), text);
  }
  fs::path run() const { return folder_ / "run"; }
  fs::path recipe() const { return folder_ / "recipe.yaml"; }

  std::vector<std::string> command(int ranks, const std::vector<std::string>& sets) const {
    std::vector<std::string> out = {
        kMpirun,           "--oversubscribe", "-n", std::to_string(ranks), tests::unfurl_binary(), "train",
        recipe().string(), "--timeout",       "60"};
    for (const std::string& set : sets) {
      out.push_back("--set");
      out.push_back(set);
    }
    return out;
  }
  Finished train(int ranks, const std::vector<std::string>& sets) const {
    return tests::Process(command(ranks, sets), {.environment = kEnvironment}).wait();
  }
  /// Every step's loss and norm, in all their digits, its dropped prefixes, and the losses of the validations.
  std::vector<std::string> numbers() const {
    std::vector<std::string> out;
    for (const Json& line : read_metrics(run() / "metrics.jsonl")) {
      const std::string kind = line.at("kind").as_string();
      if (kind == "sample") continue;
      if (kind == "prefixes") {
        out.push_back(line.dump());
        continue;
      }
      out.push_back(kind + " " + line.at("step").dump() + " " + line.at("loss").dump() + " " +
                    (kind == "step" ? line.at("gradient_norm").dump() : ""));
    }
    return out;
  }
  std::string weights(int step) const {
    return read_file(run() / ("step-0000" + std::to_string(step)) / "model.safetensors");
  }
  tests::TemporaryFolder folder_;
};

TEST_F(RanksTest, AnyNumberOfRanksGivesTheSameBitsAndMayChangeOnTheWay) {
  for (const std::string optimizer : {"adamw", "adafactor"}) {
    SCOPED_TRACE(optimizer);
    const std::vector<std::string> sets = {"batch.slots=4", "train.steps=12", "optimizer.name=" + optimizer};
    std::vector<std::vector<std::string>> all;
    std::vector<std::string> bits;
    for (const int ranks : {1, 2, 4}) {
      fs::remove_all(run());
      const Finished finished = train(ranks, sets);
      ASSERT_EQ(finished.code, 0) << finished.error;
      all.push_back(numbers());
      bits.push_back(weights(12));
    }
    EXPECT_EQ(all[0].size(), 26U);  // 12 steps and their dropped prefixes, 2 validations
    EXPECT_EQ(all[0], all[1]);
    EXPECT_EQ(all[0], all[2]);
    EXPECT_TRUE(bits[0] == bits[1] && bits[0] == bits[2]);

    fs::remove_all(run());
    std::vector<std::string> often = sets;
    often.push_back("train.checkpoint_every=4");
    ASSERT_EQ(train(4, often).code, 0);
    for (const int ranks : {2, 1}) {
      for (const char* step : {"step-000012", "step-000008"}) fs::remove_all(run() / step);
      if (!fs::exists(run() / "step-000004")) break;
      EXPECT_EQ(train(ranks, often).code, 0);
      EXPECT_EQ(numbers(), all[0]) << ranks;
      EXPECT_TRUE(weights(12) == bits[0]) << ranks;
    }
  }
}

TEST_F(RanksTest, OneCommandStartsThem) {
  const Finished finished =
      tests::Process({tests::unfurl_binary(), "train", recipe().string(), "--ranks", "2", "--set", "train.steps=2"},
                     {.environment = kEnvironment})
          .wait();
  ASSERT_EQ(finished.code, 0) << finished.error;
  EXPECT_EQ(Json::parse(read_file(run() / "run.json")).at("ranks").as_integer(), 2);
}

TEST_F(RanksTest, MistakesAreSaidOnceAndEndEveryRank) {
  const auto lines_with_error = [](const std::string& text) {
    std::vector<std::string> out;
    std::istringstream in(text);
    for (std::string line; std::getline(in, line);) {
      if (line.starts_with("error:")) out.push_back(line);
    }
    return out;
  };
  struct Case {
    int ranks;
    std::vector<std::string> sets;
    const char* expected;
  };
  for (const Case& c :
       {Case{3, {}, "batch.slots is 2, which 3 ranks cannot share in equal parts"},
        Case{4, {}, "batch.slots is 2, which 4 ranks cannot share"},
        Case{2, {"data.sources.0.path=/nowhere.jsonl"}, "/nowhere.jsonl"}, Case{2, {"train.stepz=3"}, "stepz"}}) {
    const Finished finished = train(c.ranks, c.sets);
    EXPECT_EQ(finished.code, 2) << finished.error;
    const auto lines = lines_with_error(finished.error);
    ASSERT_EQ(lines.size(), 1U) << finished.error;
    EXPECT_NE(lines[0].find(c.expected), std::string::npos) << lines[0];
    EXPECT_FALSE(fs::exists(run() / "run.json"));
  }
}

TEST_F(RanksTest, RanksOfDifferentRecipesDoNotTrain) {
  const std::vector<std::string> command = {kMpirun,
                                            "--oversubscribe",
                                            "-n",
                                            "1",
                                            tests::unfurl_binary(),
                                            "train",
                                            recipe().string(),
                                            ":",
                                            "-n",
                                            "1",
                                            tests::unfurl_binary(),
                                            "train",
                                            recipe().string(),
                                            "--set",
                                            "train.steps=9"};
  const Finished finished = tests::Process(command, {.environment = kEnvironment}).wait();
  EXPECT_EQ(finished.code, 2);
  EXPECT_NE(finished.error.find("error: rank 1 has another recipe than rank 0"), std::string::npos) << finished.error;
  EXPECT_NE(finished.error.find("steps: 9"), std::string::npos) << finished.error;
}

}  // namespace
}  // namespace unfurl::train
