// Runs of several ranks, started by mpirun as a user does.
#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <sstream>
#include <thread>
#include <tuple>

#include "core/files.h"
#include "tests/support/subprocess.h"
#include "tests/support/temporary_folder.h"
#include "tests/train/trainer/fixture.h"
#include "train/report/metrics.h"
#include "train/trainer/checkpoint.h"

namespace unfurl::train {
namespace {

namespace fs = std::filesystem;
using tests::Finished;

constexpr const char* kMpirun = "/usr/bin/mpirun";

/// Threads, as ranks share the cores; and no look for leaks, as MPI leaves memory at its end.
const std::vector<std::string> kEnvironment = {"UNFURL_THREADS=1", "ASAN_OPTIONS=detect_leaks=0",
                                               "OMPI_ALLOW_RUN_AS_ROOT=1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1"};

/// The processes that train this recipe, without mpirun.
std::vector<int> processes_of(const fs::path& recipe) {
  std::vector<int> out;
  for (const auto& entry : fs::directory_iterator("/proc")) {
    const std::string name = entry.path().filename().string();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    std::ifstream file(entry.path() / "cmdline");
    const std::string line((std::istreambuf_iterator<char>(file)), {});
    if (line.starts_with(tests::unfurl_binary()) && line.find(recipe.string()) != std::string::npos) {
      out.push_back(std::stoi(name));
    }
  }
  return out;
}

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
        kMpirun,           "--oversubscribe", "-n",    std::to_string(ranks), tests::unfurl_binary(), "train",
        recipe().string(), "--timeout",       timeout_};
    for (const std::string& set : sets) {
      out.push_back("--set");
      out.push_back(set);
    }
    return out;
  }
  Finished train(int ranks, const std::vector<std::string>& sets,
                 const std::vector<std::string>& environment = {}) const {
    std::vector<std::string> all = kEnvironment;
    all.insert(all.end(), environment.begin(), environment.end());
    return tests::Process(command(ranks, sets), {.environment = all}).wait();
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
  std::string weights(int step) const { return read_file(checkpoint_path(run(), step) / "model.safetensors"); }
  tests::TemporaryFolder folder_;
  std::string timeout_ = "60";  // seconds
};

std::vector<std::string> lines_with_error(const std::string& text) {
  std::vector<std::string> out;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with("error:")) out.push_back(line);
  }
  return out;
}

TEST_F(RanksTest, AnyNumberOfRanksGivesTheSameBitsAndMayChangeOnTheWay) {
  // Fifty steps, stopped at twenty, in the long series.
  const bool long_run = std::getenv("UNFURL_LONG_TESTS") != nullptr;
  const int steps = long_run ? 50 : 12, stop = long_run ? 20 : 4;
  for (const std::string optimizer : {"adamw", "adafactor"}) {
    SCOPED_TRACE(optimizer);
    const std::vector<std::string> sets = {"batch.slots=4", fmt::format("train.steps={}", steps),
                                           "optimizer.name=" + optimizer};
    std::vector<std::vector<std::string>> all;
    std::vector<std::string> bits;
    for (const auto& [ranks, set] :
         {std::pair{1, "train.overlap=true"}, {2, "train.bucket_blocks=1"}, {4, "train.overlap=false"}}) {
      fs::remove_all(run());
      std::vector<std::string> with = sets;
      with.push_back(set);
      const Finished finished = train(ranks, with);
      ASSERT_EQ(finished.code, 0) << finished.error;
      all.push_back(numbers());
      bits.push_back(weights(steps));
    }
    EXPECT_GE(all[0].size(), 2 * static_cast<std::size_t>(steps));  // losses and dropped prefixes
    EXPECT_EQ(all[0], all[1]);
    EXPECT_EQ(all[0], all[2]);
    EXPECT_TRUE(bits[0] == bits[1] && bits[0] == bits[2]);

    fs::remove_all(run());
    std::vector<std::string> often = sets;
    often.push_back(fmt::format("train.checkpoint_every={}", stop));
    often.push_back("train.keep=100");
    ASSERT_EQ(train(4, often).code, 0);
    // What is computed again in the backward pass makes no difference either, nor do buckets of another size.
    for (const auto& [ranks, recompute] : {std::pair{2, "true"}, {1, "false"}}) {
      for (int step = stop + 1; step <= steps; ++step) fs::remove_all(checkpoint_path(run(), step));
      ASSERT_EQ(checkpoint_steps(run()), std::vector<Index>{stop});
      std::vector<std::string> again = often;
      again.push_back(fmt::format("train.recompute={}", recompute));
      again.emplace_back("train.bucket_blocks=3");
      EXPECT_EQ(train(ranks, again).code, 0);
      EXPECT_EQ(numbers(), all[0]) << ranks;
      EXPECT_TRUE(weights(steps) == bits[0]) << ranks;
    }
  }
}

TEST_F(RanksTest, GradientsAreSummedWhileBackwardGoesOn) {
  for (const bool overlap : {true, false}) {
    fs::remove_all(run());
    std::vector<std::string> words = command(2, {"train.steps=2", fmt::format("train.overlap={}", overlap)});
    words.emplace_back("--profile");
    const Finished finished = tests::Process(words, {.environment = kEnvironment}).wait();
    ASSERT_EQ(finished.code, 0) << finished.error;
    EXPECT_NE(finished.error.find("ms were waited for them"), std::string::npos) << finished.error;
    std::vector<std::pair<double, double>> backward, buckets;
    const Json trace = Json::parse(read_file(run() / "trace.json"));
    for (const Json& event : trace.at("traceEvents").as_array()) {
      const double start = event.at("ts").as_number(), end = start + event.at("dur").as_number();
      if (event.at("name").as_string() == "backward") backward.emplace_back(start, end);
      if (event.at("name").as_string() == "bucket of gradients") buckets.emplace_back(start, end);
    }
    ASSERT_FALSE(backward.empty());
    ASSERT_GE(buckets.size(), 6U);
    std::size_t within = 0;
    for (const auto& [start, end] : buckets) {
      for (const auto& [first, last] : backward) within += first < start && end < last ? 1 : 0;
    }
    EXPECT_EQ(within, overlap ? buckets.size() : 0);
    const Json communication = Json::parse(read_file(run() / "run.json")).at("communication");
    EXPECT_EQ(communication.at("steps").as_integer(), 2);
    EXPECT_LE(communication.at("exposed_seconds_per_step").as_number(),
              communication.at("seconds_per_step").as_number());
    // Half of the gradients and of the weights, in f32, and little else.
    const double weights = Json::parse(read_file(run() / "run.json")).at("parameters").as_number();
    EXPECT_NEAR(communication.at("bytes_sent_per_step").as_number(), 4 * weights, 4 * 65536 * 4);
  }
}

#ifdef UNFURL_HOST_CUDA
TEST_F(RanksTest, TheStepsOfAGpuAreSharedToo) {
  for (const std::string precision : {"f32", "bf16"}) {
    SCOPED_TRACE(precision);
    std::vector<std::vector<std::string>> all;
    std::vector<std::string> bits;
    for (const int ranks : {1, 2}) {
      fs::remove_all(run());
      const Finished finished =
          train(ranks, {"device=host_cuda", "precision=" + precision, "train.steps=3", "samples.queries=[]",
                        "batch.micro_batches=1", "train.validate_every=0", "train.bucket_blocks=1"});
      ASSERT_EQ(finished.code, 0) << finished.error;
      all.push_back(numbers());
      bits.push_back(weights(3));
    }
    EXPECT_EQ(all[0], all[1]);
    EXPECT_TRUE(bits[0] == bits[1]);
  }
}

/// In bf16 each rank has masters of its own part alone, and checkpoints have all of them.
TEST_F(RanksTest, MastersThatRanksShareAreOfOneRunWithThoseOfOneRank) {
  const std::vector<std::string> sets = {"device=host_cuda",      "precision=bf16",     "train.steps=3",
                                         "batch.micro_batches=1", "samples.queries=[]", "train.validate_every=0",
                                         "train.bucket_blocks=1", "train.keep=9",       "train.checkpoint_every=1"};
  ASSERT_EQ(train(1, sets).code, 0);
  const std::vector<std::string> expected = numbers();
  const std::string bits = weights(3);
  fs::remove_all(checkpoint_path(run(), 3));
  for (const int ranks : {2, 1}) {
    const Finished finished = train(ranks, sets);
    ASSERT_EQ(finished.code, 0) << finished.error;
    EXPECT_NE(finished.error.find("goes on from"), std::string::npos) << finished.error;
    EXPECT_EQ(numbers(), expected) << ranks;
    EXPECT_TRUE(weights(3) == bits) << ranks;
    if (ranks == 1) continue;
    // The next begins with what two ranks have written.
    fs::remove_all(run());
    ASSERT_EQ(train(2, sets).code, 0);
    EXPECT_TRUE(weights(3) == bits);
    fs::remove_all(checkpoint_path(run(), 3));
  }
}

/// Samples of low-rank weights are of all of them, wherever they are trained.
TEST_F(RanksTest, SamplesAreOfTheMastersOfAllRanks) {
  std::vector<std::vector<std::string>> samples;
  for (const int ranks : {1, 2}) {
    fs::remove_all(run());
    const Finished finished =
        train(ranks, {"device=host_cuda", "precision=bf16", "method=lora", "train.steps=2", "batch.micro_batches=1",
                      "train.validate_every=2", "train.validation_tokens=64", "train.bucket_blocks=1",
                      "optimizer.learning_rate=0.1"});
    ASSERT_EQ(finished.code, 0) << finished.error;
    std::vector<std::string>& of_run = samples.emplace_back();
    for (const Json& line : read_metrics(run() / "metrics.jsonl")) {
      if (line.at("kind").as_string() == "sample") of_run.push_back(line.dump());
    }
    EXPECT_FALSE(of_run.empty());
  }
  EXPECT_EQ(samples[0], samples[1]);
}

/// Ranks on host_cuda that go the way of GPUs, by a fake NCCL.
class NcclRanksTest : public RanksTest {
 protected:
  Finished train_by_nccl(int ranks, std::vector<std::string> sets, std::vector<std::string> environment = {}) const {
    sets.insert(sets.begin(),
                {"device=host_cuda", "precision=f32", "train.steps=2", "batch.tokens=128", "samples.queries=[]",
                 "batch.micro_batches=1", "train.validate_every=0", "batch.slots=4"});
    environment.push_back("FAKE_NCCL_FOLDER=" + folder_.path().string());
    return train(ranks, sets, environment);
  }
  static constexpr const char* kNccl = "UNFURL_NCCL=" FAKE_NCCL;
};

TEST_F(NcclRanksTest, SumsAlongTheTreeGiveTheBitsOfOneRankAndOthersAreClose) {
  for (const int ranks : {2, 4}) {
    SCOPED_TRACE(ranks);
    const std::vector<std::string> sets = {ranks == 2 ? "optimizer.name=adafactor" : "optimizer.name=adamw",
                                           ranks == 2 ? "precision=f32" : "precision=bf16"};
    std::vector<std::string> deterministic = sets;
    deterministic.push_back("train.deterministic_reduction=true");
    fs::remove_all(run());
    const Finished one = train_by_nccl(1, sets);
    ASSERT_EQ(one.code, 0) << one.error;
    const std::vector<std::string> expected = numbers();
    const auto losses = tests::losses(run());
    const std::string bits = weights(2);
    // All that is queued runs at the last moment, so that what does not wait for a collective shows; or collectives run
    // at the first, while the graph of the last micro-batch stands at their mark, so that what they do not wait for
    // does.
    for (const auto& [streams, overlap] :
         {std::pair<std::string, const char*>{"late", "true"}, {"others_first", "true"}, {"others_first", "false"}}) {
      SCOPED_TRACE(streams + " " + overlap);
      std::vector<std::string> with = deterministic;
      with.push_back(std::string("train.overlap=") + overlap);
      fs::remove_all(run());
      const Finished same = train_by_nccl(ranks, with, {kNccl, "UNFURL_HOST_STREAMS=" + streams});
      ASSERT_EQ(same.code, 0) << same.error;
      EXPECT_NE(same.error.find("GPUs over NCCL 2.28.9, sums along the tree of ranks"), std::string::npos)
          << same.error;
      EXPECT_EQ(numbers(), expected);
      EXPECT_TRUE(weights(2) == bits);
    }
    if (ranks == 2) continue;  // a sum of two has one order
    fs::remove_all(run());
    const Finished close = train_by_nccl(ranks, sets, {kNccl});
    ASSERT_EQ(close.code, 0) << close.error;
    EXPECT_FALSE(weights(2) == bits);
    const auto theirs = tests::losses(run());
    ASSERT_EQ(theirs.size(), losses.size());
    for (std::size_t i = 0; i < losses.size(); ++i) EXPECT_NEAR(theirs[i].second, losses[i].second, 1e-3) << i;
  }
  for (const auto& entry : fs::directory_iterator(folder_.path())) {
    EXPECT_FALSE(entry.path().filename().string().starts_with("fake_nccl")) << "left behind";
  }
}

TEST_F(NcclRanksTest, WhatHangsIsNamedInOneLine) {
  timeout_ = "3";
  for (const auto& [variable, expected] : {
           std::pair<const char*, const char*>{"FAKE_NCCL_HANG=1:3", "; start again"},
           {"FAKE_NCCL_STOP=0:3", "; rank 0 does not answer: "},
       }) {
    SCOPED_TRACE(variable);
    const Finished finished = train_by_nccl(2, {}, {kNccl, variable});
    EXPECT_NE(finished.code, 0);
    const auto lines = lines_with_error(finished.error);
    ASSERT_EQ(lines.size(), 1U) << finished.error;
    // A rank whose part of a sum is empty is further on.
    const char* const hangs = "sum of the gradients (collective 3 over NCCL) has not ended after 3 seconds on ";
    EXPECT_NE(lines[0].find(hangs), std::string::npos) << lines[0];
    EXPECT_NE(lines[0].find(expected), std::string::npos) << lines[0];
  }
}

TEST_F(NcclRanksTest, ALibraryThatCannotBeUsedIsToldOnce) {
  struct Case {
    std::vector<std::string> environment;
    const char* expected;
  };
  for (const Case& c :
       {Case{{"UNFURL_NCCL=libnccl-that-is-not-there.so"}, "NCCL: libnccl-that-is-not-there.so cannot be loaded: "},
        Case{{kNccl, "FAKE_NCCL_VERSION=21903"}, " is version 2.19.3; 2.20.3 or newer is needed"}}) {
    const Finished finished = train_by_nccl(2, {}, c.environment);
    EXPECT_NE(finished.code, 0);
    const auto lines = lines_with_error(finished.error);
    ASSERT_EQ(lines.size(), 1U) << finished.error;
    EXPECT_NE(lines[0].find(c.expected), std::string::npos) << lines[0];
  }
}
#endif

TEST_F(RanksTest, ARunOfAnotherProcessIsNotDisturbed) {
  fs::create_directories(run());
  const int lock = ::open((run() / ".lock").c_str(), O_RDWR | O_CREAT, 0600);
  ASSERT_EQ(::flock(lock, LOCK_EX), 0);
  const Finished finished = train(2, {});
  ::close(lock);
  EXPECT_EQ(finished.code, 2) << finished.error;
  EXPECT_NE(finished.error.find("error: "), std::string::npos) << finished.error;
  EXPECT_EQ(finished.error.find("rank 1"), std::string::npos) << finished.error;
}

TEST_F(RanksTest, ARankThatDiesBeforeTheFirstStepEndsAll) {
  tests::Process running(command(2, {"train.steps=100000"}), {.environment = kEnvironment});
  std::vector<int> ranks;
  for (int i = 0; i < 1000 && ranks.size() < 2; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    ranks = processes_of(recipe());
  }
  ASSERT_EQ(ranks.size(), 2U);
  ::kill(ranks[1], SIGKILL);
  const Finished finished = running.wait();
  EXPECT_NE(finished.code, 0);
  EXPECT_TRUE(processes_of(recipe()).empty());
}

TEST_F(RanksTest, OneCommandStartsThem) {
  const Finished finished =
      tests::Process({tests::unfurl_binary(), "train", recipe().string(), "--ranks", "2", "--set", "train.steps=2"},
                     {.environment = kEnvironment})
          .wait();
  ASSERT_EQ(finished.code, 0) << finished.error;
  EXPECT_EQ(Json::parse(read_file(run() / "run.json")).at("ranks").as_integer(), 2);
}

/// mpirun itself would kill the ranks a second after it is asked to end.
TEST_F(RanksTest, OneCommandEndsThemWithACheckpoint) {
  for (const auto& [signal, code] : {std::pair{SIGTERM, 143}, {SIGINT, 130}, {SIGUSR1, 138}}) {
    fs::remove_all(run());
    tests::Process running({tests::unfurl_binary(), "train", recipe().string(), "--ranks", "2", "--set",
                            "train.steps=100000", "--set", "train.validate_every=0"},
                           {.environment = kEnvironment});
    EXPECT_TRUE(
        running.wait_until([&] { return fs::exists(run() / "metrics.jsonl") && !tests::losses(run()).empty(); }));
    running.send(signal);
    const Finished finished = running.wait();
    EXPECT_EQ(finished.code, code) << finished.error;
    EXPECT_NE(finished.error.find("; the same command goes on from there"), std::string::npos) << finished.error;
    EXPECT_TRUE(newest_checkpoint(run()));
    EXPECT_TRUE(processes_of(recipe()).empty());
  }
}

TEST_F(RanksTest, OneCommandSaysAMistakeOnce) {
  for (const auto& [ranks, set, expected] :
       {std::tuple{"3", "seed=1", "batch.slots is 2, which 3 ranks cannot share"}, {"2", "train.stepz=3", "stepz"}}) {
    const Finished finished =
        tests::run_process({tests::unfurl_binary(), "train", recipe().string(), "--ranks", ranks, "--set", set});
    EXPECT_EQ(finished.code, 2);
    EXPECT_NE(finished.error.find(expected), std::string::npos) << finished.error;
    EXPECT_EQ(std::count(finished.error.begin(), finished.error.end(), '\n'), 1) << finished.error;
  }
}

TEST_F(RanksTest, WhatIsWrongOnAHostIsSaidOnce) {
  timeout_ = "0";
  const Finished option = train(2, {});
  ASSERT_EQ(lines_with_error(option.error).size(), 1U) << option.error;
  EXPECT_EQ(option.code, 2);
  timeout_ = "60";
  std::vector<std::string> run = command(2, {});
  run[5] = "run";
  run.erase(run.begin() + 7, run.end());
  const Finished stages = tests::Process(run, {.environment = kEnvironment}).wait();
  ASSERT_EQ(lines_with_error(stages.error).size(), 1U) << stages.error;
  EXPECT_NE(stages.error.find("unfurl run is one process"), std::string::npos) << stages.error;
  // The program without its plugin.
  const fs::path alone = folder_ / "unfurl";
  fs::copy_file(tests::unfurl_binary(), alone);
  std::vector<std::string> words = command(2, {});
  words[4] = alone.string();
  for (const std::vector<std::string>& started :
       {words, std::vector<std::string>{alone.string(), "train", recipe().string(), "--ranks", "2"}}) {
    const Finished finished = tests::Process(started, {.environment = kEnvironment}).wait();
    EXPECT_EQ(finished.code, 1);
    const auto lines = lines_with_error(finished.error);
    ASSERT_EQ(lines.size(), 1U) << finished.error;
    EXPECT_NE(lines[0].find("several ranks need libunfurl_mpi.so"), std::string::npos) << lines[0];
  }
}

TEST_F(RanksTest, WhatRank0CannotWriteAtTheEndItSays) {
  make_folder(run() / "run.json.tmp");  // as on a disk that is full just then
  const Finished finished = train(2, {"train.steps=2", "train.validate_every=0", "samples.queries=[]"});
  EXPECT_EQ(finished.code, 1);
  const auto lines = lines_with_error(finished.error);
  ASSERT_EQ(lines.size(), 1U) << finished.error;
  EXPECT_NE(lines[0].find("run.json"), std::string::npos) << lines[0];
  EXPECT_NO_THROW(verify_checkpoint(checkpoint_path(run(), 2)));
}

TEST_F(RanksTest, MistakesAreSaidOnceAndEndEveryRank) {
  struct Case {
    int ranks;
    std::vector<std::string> sets;
    const char* expected;
  };
  for (const Case& c :
       {Case{3, {}, "batch.slots is 2, which 3 ranks cannot share in equal parts"},
        Case{4, {}, "batch.slots is 2, which 4 ranks cannot share"},
        Case{3, {"data.sources.0.path=/nowhere.jsonl"}, "batch.slots is 2, which 3 ranks"},  // before data are prepared
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

TEST_F(RanksTest, RanksWriteIntoOneFolder) {
  std::vector<std::string> command = {kMpirun, "--oversubscribe"};
  for (const char* here : {"a", "b"}) {
    fs::create_directories(folder_ / here);
    if (command.size() > 2) command.emplace_back(":");
    const std::vector<std::string> one = {
        "-n",    "1",         "-wdir", (folder_ / here).string(), tests::unfurl_binary(), "train", recipe().string(),
        "--set", "output=run"};
    command.insert(command.end(), one.begin(), one.end());
  }
  const Finished finished = tests::Process(command, {.environment = kEnvironment}).wait();
  EXPECT_EQ(finished.code, 2);
  EXPECT_NE(finished.error.find("rank 1: run is not the folder that rank 0 has"), std::string::npos) << finished.error;
  EXPECT_FALSE(fs::exists(folder_ / "a/run"));
}

}  // namespace
}  // namespace unfurl::train
