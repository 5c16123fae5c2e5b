#include "train/trainer/trainer.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <limits>

#include "core/files.h"
#include "core/json.h"
#include "core/safetensors.h"
#include "tests/support/subprocess.h"
#include "tests/train/data/fixture.h"
#include "tests/train/trainer/fixture.h"
#include "train/corpus/pair.h"
#include "train/data/tokenizer.h"
#include "train/report/metrics.h"
#include "train/trainer/checkpoint.h"
#include "train/trainer/load_run.h"
#include "train/trainer/plan.h"

namespace unfurl::train {
namespace {

namespace fs = std::filesystem;
using tests::has;
using tests::losses;
using tests::tiny_recipe;

/// What train_stage says on standard error, and its outcome or error.
struct Ran {
  TrainOutcome outcome;
  std::string messages, mistake, failure;
};

Ran train(const Recipe& recipe, const TrainSettings& settings = {}) {
  Ran ran;
  testing::internal::CaptureStderr();
  try {
    ran.outcome = train_stage(recipe, settings);
  } catch (const UserError& error) {
    ran.mistake = error.what();
  } catch (const Error& error) {
    ran.failure = error.what();
  }
  ran.messages = testing::internal::GetCapturedStderr();
  return ran;
}

/// Makes one number of a tensor NaN, as if the checkpoint had been written with it.
void poison(const fs::path& checkpoint, const std::string& tensor, Index element) {
  const fs::path model = checkpoint / "model.safetensors", path = checkpoint / "state.json";
  std::string bytes = read_file(model);
  const float nan = std::numeric_limits<float>::quiet_NaN();
  {
    const SafetensorsFile file(model);
    const auto last = file.tensors().back().bytes;
    const auto from_end = last.data() + last.size() - file.at(tensor).bytes.data();
    std::memcpy(bytes.data() + bytes.size() - from_end + element * sizeof nan, &nan, sizeof nan);
  }
  tests::spill(model, bytes);
  Json state = Json::parse(read_file(path));
  state["files"]["model.safetensors"]["xxh3"] = fmt::format("{:016x}", hash_bytes(bytes));
  tests::spill(path, sealed(state));
}

std::string weights(const fs::path& run, Index step) {
  return read_file(checkpoint_path(run, step) / "model.safetensors");
}

class TrainerTest : public testing::Test {
 protected:
  const tests::TemporaryFolder folder;
  const fs::path a = folder / "a", b = folder / "b";
};

TEST_F(TrainerTest, ARunLearnsAndLeavesItsFiles) {
  const Ran ran = train(tiny_recipe(a, {"train.steps=40", "train.validate_every=20", "model.dropout=0"}));
  EXPECT_EQ(ran.failure + ran.mistake, "");
  EXPECT_TRUE(ran.outcome.finished);
  EXPECT_EQ(ran.outcome.step, 40);
  EXPECT_EQ(ran.outcome.exit_code, 0);
  const auto steps = losses(a);
  ASSERT_EQ(steps.size(), 40u);
  EXPECT_NEAR(steps.front().second, std::log(420), 0.1);
  EXPECT_LT(steps.back().second, steps.front().second - 1.5);
  const auto validations = losses(a, "validation");
  ASSERT_EQ(validations.size(), 2u);
  EXPECT_LT(validations[1].second, validations[0].second);
  EXPECT_EQ(ran.outcome.best_loss, validations[1].second);
  const Json run = Json::parse(read_file(a / "run.json"));
  EXPECT_TRUE(run.at("finished").as_bool());
  EXPECT_EQ(run.at("best_step").as_integer(), 40);
  EXPECT_EQ(resolve_checkpoint(a), a / "step-000040");
  EXPECT_TRUE(has(read_file(a / "report.html"), "tiny"));
  EXPECT_EQ(parse_recipe(read_file(a / "recipe.yaml"), "recipe.yaml").train.steps, 40);
  Index samples = 0;
  for (const Json& line : read_metrics(a / "metrics.jsonl")) {
    if (line.at("kind").as_string() != "sample") continue;
    ++samples;
    EXPECT_EQ(line.at("expansions").as_array().size(), 2u);
    EXPECT_TRUE(line.at("expansions").as_array()[0].as_string().starts_with("a fox"));
  }
  EXPECT_EQ(samples, 2);
  // Once more: nothing is left to do, and nothing changes.
  const std::string before = weights(a, 40);
  const Ran again = train(tiny_recipe(a, {"train.steps=40", "train.validate_every=20", "model.dropout=0"}));
  EXPECT_EQ(again.failure + again.mistake, "");
  EXPECT_TRUE(again.outcome.finished);
  EXPECT_TRUE(weights(a, 40) == before);
  EXPECT_EQ(losses(a), steps);
}

TEST_F(TrainerTest, ARunOnSimulatedPairsOrFromOneSaysSo) {
  std::vector<Pair> pairs = read_pairs(tests::tiny_corpus() / "pairs.jsonl");
  pairs[7].simulated = true;
  PairWriter writer(folder / "pairs.jsonl");
  for (const Pair& pair : pairs) writer.write(pair);
  writer.commit();
  const std::string source = "data.sources=[{path: " + (folder / "pairs.jsonl").string() + "}]";
  const std::vector<std::string> some = {"train.steps=4", "train.checkpoint_every=2"};
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.end(), some.begin(), some.end());
    return more;
  };
  const auto is_told = [&](const fs::path& run, const Ran& ran) {
    EXPECT_EQ(ran.failure + ran.mistake, "");
    const Json written = Json::parse(read_file(run / "run.json"));
    const Json* said = written.find("simulated");
    const bool told = said != nullptr && said->as_bool();
    EXPECT_EQ(has(read_file(run / "report.html"), "<h1>unfurl: tiny: SIMULATED data</h1>"), told);
    EXPECT_EQ(has(ran.messages, "tiny: on SIMULATED data: no real images are behind it\n"), told);
    EXPECT_EQ(load_run(run).simulated, told);
    return told;
  };
  EXPECT_TRUE(is_told(a, train(tiny_recipe(a, with({source})))));
  const fs::path plain = folder / "plain", from_plain = folder / "from_plain";
  EXPECT_FALSE(is_told(plain, train(tiny_recipe(plain, some))));
  EXPECT_TRUE(is_told(b, train(tiny_recipe(b, with({"start=" + a.string()}))))) << "it starts from one";
  EXPECT_FALSE(is_told(from_plain, train(tiny_recipe(from_plain, with({"start=" + plain.string()})))));
  // A run that goes on knows it, though what it started from is gone.
  fs::remove_all(b / "step-000004");
  fs::remove(b / "run.json");
  fs::remove_all(a);
  EXPECT_TRUE(is_told(b, train(tiny_recipe(b, with({"start=" + a.string()})))));
}

TEST_F(TrainerTest, AStoppedRunGoesOnWithTheBitsOfOneThatWasNot) {
  const std::vector<std::string> sets = {"train.checkpoint_every=1", "train.keep=100", "train.validate_every=4"};
  ASSERT_TRUE(train(tiny_recipe(a, sets)).outcome.finished);
  for (const Index stop : {1, 5, 8}) {
    SCOPED_TRACE(stop);
    fs::remove_all(b);
    fs::copy(a, b, fs::copy_options::recursive);
    for (Index step = stop + 1; step <= 12; ++step) fs::remove_all(checkpoint_path(b, step));
    const Ran ran = train(tiny_recipe(b, sets));
    EXPECT_EQ(ran.failure + ran.mistake, "");
    EXPECT_TRUE(has(ran.messages, "goes on from " + checkpoint_path(b, stop).string())) << ran.messages;
    EXPECT_TRUE(ran.outcome.finished);
    for (const Index step : {stop + 1, Index{12}}) {
      EXPECT_TRUE(weights(a, step) == weights(b, step));
      EXPECT_TRUE(read_file(checkpoint_path(a, step) / "optimizer-0-of-1.safetensors") ==
                  read_file(checkpoint_path(b, step) / "optimizer-0-of-1.safetensors"));
    }
    EXPECT_EQ(losses(a), losses(b));
    EXPECT_EQ(losses(a, "validation"), losses(b, "validation"));
  }
}

TEST_F(TrainerTest, ADamagedNewestCheckpointIsPassedOver) {
  const std::vector<std::string> sets = {"train.checkpoint_every=5", "train.keep=100"};
  ASSERT_TRUE(train(tiny_recipe(a, sets)).outcome.finished);
  const std::string whole = weights(a, 12);
  tests::spill(checkpoint_path(a, 12) / "model.safetensors", whole.substr(0, 1000));
  const Ran ran = train(tiny_recipe(a, sets));
  EXPECT_TRUE(has(ran.messages, "warning: ") && has(ran.messages, "is damaged")) << ran.messages;
  EXPECT_TRUE(has(ran.messages, "goes on from " + checkpoint_path(a, 10).string())) << ran.messages;
  EXPECT_TRUE(weights(a, 12) == whole);
}

TEST_F(TrainerTest, AModelIsReadWithoutTheOptimisersState) {
  ASSERT_TRUE(train(tiny_recipe(a, {"train.steps=1"})).outcome.finished);
  fs::remove(checkpoint_path(a, 1) / "optimizer-0-of-1.safetensors");
  EXPECT_NO_THROW(load_run(a));
  EXPECT_TRUE(has(train(tiny_recipe(a, {"train.steps=1"})).mistake, "is whole; start over with --fresh"));
}

TEST_F(TrainerTest, WhereNoCheckpointIsWholeNothingIsOverwritten) {
  ASSERT_TRUE(train(tiny_recipe(a)).outcome.finished);
  for (const Index step : checkpoint_steps(a)) tests::spill(checkpoint_path(a, step) / "model.safetensors", "short");
  EXPECT_TRUE(has(train(tiny_recipe(a)).mistake, "no checkpoint in " + a.string() + " is whole"));
  EXPECT_EQ(weights(a, 12), "short");
  EXPECT_TRUE(train(tiny_recipe(a), {.fresh = true}).outcome.finished);
}

TEST_F(TrainerTest, AStateThatDoesNotFitItsCheckpointIsNamed) {
  ASSERT_TRUE(train(tiny_recipe(a)).outcome.finished);
  const fs::path path = checkpoint_path(a, 12) / "state.json";
  const Json good = Json::parse(read_file(path));
  for (const auto& [key, value] : {std::pair{"updates", Json(-4)}, {"seconds", Json("x")}}) {
    Json bad = good;
    bad[key] = value;
    tests::spill(path, sealed(bad));
    EXPECT_TRUE(has(train(tiny_recipe(a)).mistake, path.string() + " is damaged: ")) << key;
  }
}

TEST_F(TrainerTest, ABitOfTheStateIsWorthACheckpoint) {
  const std::vector<std::string> sets = {"train.checkpoint_every=5", "train.keep=100"};
  ASSERT_TRUE(train(tiny_recipe(a, sets)).outcome.finished);
  const std::string whole = weights(a, 12), text = read_file(checkpoint_path(a, 12) / "state.json");
  const auto steps = losses(a);
  for (const char* place : {"\"bin\": ", "\"updates\": ", "learning_rate: ", "\"format\": ", "\"xxh3\": \""}) {
    SCOPED_TRACE(place);
    std::string flipped = text;
    char& digit = flipped[flipped.rfind(place) + std::strlen(place)];
    digit = static_cast<char>(digit ^ 1);
    tests::spill(checkpoint_path(a, 12) / "state.json", flipped);
    const Ran ran = train(tiny_recipe(a, sets));
    EXPECT_EQ(ran.failure + ran.mistake, "");
    const std::string warning = "warning: " + (checkpoint_path(a, 12) / "state.json").string() +
                                " is damaged: its checksum is not that of its text; step 10 is tried\n";
    EXPECT_TRUE(has(ran.messages, warning)) << ran.messages;
    EXPECT_TRUE(weights(a, 12) == whole);
    EXPECT_EQ(losses(a), steps);
  }
  // Of a newer program: not damaged, and not to be written over.
  Json newer = Json::parse(text);
  newer["format"] = 99;
  tests::spill(checkpoint_path(a, 12) / "state.json", sealed(newer));
  EXPECT_TRUE(has(train(tiny_recipe(a, sets)).mistake, "format 99 is of a newer version of this program; use that"));
}

TEST_F(TrainerTest, ADamagedCheckpointIsNotOneOfTheNewestThatStay) {
  const std::vector<std::string> sets = {"train.checkpoint_every=4", "train.validate_every=0", "train.keep=1"};
  std::vector<std::string> often = sets;
  often.insert(often.end(), {"train.checkpoint_every=2", "train.keep=100"});
  ASSERT_TRUE(train(tiny_recipe(a, often)).outcome.finished);
  for (Index step = 8; step <= 12; step += 2) tests::spill(checkpoint_path(a, step) / "model.safetensors", "short");
  fs::remove(checkpoint_path(a, 10) / "state.json");
  // Stopped by weights that are not finite, as by a kill, behind step 8.
  poison(checkpoint_path(a, 6), "embedding.weight", Tokenizer::kModeR * 32 + 5);
  const Ran ran = train(tiny_recipe(a, sets));
  EXPECT_TRUE(has(ran.failure, "step 8: the weights")) << ran.failure << ran.messages;
  EXPECT_EQ(checkpoint_steps(a), (std::vector<Index>{2, 4, 6}));
  EXPECT_TRUE(has(ran.messages, (checkpoint_path(a, 10) / "state.json").string())) << ran.messages;
  EXPECT_NO_THROW(verify_checkpoint(checkpoint_path(a, 6)));
}

TEST_F(TrainerTest, ARunsOwnTokenizerFollowsItsKeys) {
  const auto recipe = [&](const char* size) {
    return tiny_recipe(a, {"tokenizer.path=", std::string("tokenizer.vocab_size=") + size, "train.steps=1"});
  };
  ASSERT_EQ(train(recipe("420")).mistake, "");
  const Ran other = train(recipe("430"));
  EXPECT_TRUE(has(other.mistake, "tokenizer.vocab_size was \"420\", is \"430\"")) << other.mistake;
  EXPECT_EQ(train(recipe("430"), {.fresh = true}).mistake, "");
  EXPECT_EQ(Tokenizer(a / "tokenizer.model").vocab_size(), 430);
}

TEST_F(TrainerTest, DamagedShardsCanBeDeleted) {
  ASSERT_TRUE(train(tiny_recipe(a)).outcome.finished);
  std::vector<fs::path> shards;
  for (const auto& entry : fs::recursive_directory_iterator(folder.path())) {
    if (entry.path().extension() == ".shard") shards.push_back(entry.path());
  }
  ASSERT_FALSE(shards.empty());
  tests::spill(shards.front(), read_file(shards.front()).substr(0, 100));
  EXPECT_TRUE(has(train(tiny_recipe(a)).mistake, "delete it to have it made again"));
  fs::remove(shards.front());
  EXPECT_EQ(train(tiny_recipe(a)).mistake, "");
}

TEST_F(TrainerTest, ThreadsAndRecomputationDoNotChangeBits) {
  ASSERT_TRUE(train(tiny_recipe(a)).outcome.finished);
  ASSERT_TRUE(train(tiny_recipe(b, {"train.recompute=true"})).outcome.finished);
  EXPECT_TRUE(weights(a, 12) == weights(b, 12));
  const fs::path recipe = folder / "tiny.yaml";
  for (const char* threads : {"1", "2", "3"}) {
    const fs::path run = folder / threads;
    tests::spill(recipe, tests::tiny_recipe_text(run));
    const tests::Finished finished = tests::run_process({tests::unfurl_binary(), "train", recipe.string()},
                                                        {.environment = {std::string("UNFURL_THREADS=") + threads}});
    ASSERT_EQ(finished.code, 0) << finished.error;
    EXPECT_TRUE(weights(a, 12) == weights(run, 12)) << threads;
    EXPECT_EQ(losses(a), losses(run));
    EXPECT_EQ(losses(a, "validation"), losses(run, "validation"));
  }
}

TEST_F(TrainerTest, NumbersThatAreNotFiniteAreNamedAndSkippedAndEndTheRun) {
  ASSERT_TRUE(train(tiny_recipe(a, {"train.steps=1"})).outcome.finished);
  poison(checkpoint_path(a, 1), "layers.1.down.weight", 7);
  const Ran ran = train(tiny_recipe(
      b, {"start=" + a.string(), "train.non_finite_limit=3", "train.validate_every=2", "samples.queries=[]"}));
  EXPECT_TRUE(ran.failure.starts_with("step 3: not finite: the loss and the gradient of embedding.weight; 3 times"))
      << ran.failure;
  for (const char* step :
       {"step 1: not finite: the loss", "step 2: not finite: the loss", "step 3: not finite: the loss"}) {
    EXPECT_TRUE(has(ran.messages, std::string("warning: ") + step)) << ran.messages;
  }
  EXPECT_FALSE(has(ran.messages, "step 4"));
  EXPECT_TRUE(checkpoint_steps(b).empty());
  EXPECT_FALSE(has(read_file(b / "metrics.jsonl"), "nan"));
}

TEST_F(TrainerTest, WeightsThatAreNotFiniteEndTheRunAndItsCheckpointsStay) {
  // In the embedding of a piece that no text has: the loss stays finite.
  const Index element = Tokenizer::kModeR * 32 + 5;
  const std::vector<std::string> sets = {"model.tied=false", "train.checkpoint_every=1", "train.keep=100",
                                         "train.validate_every=0", "samples.queries=[]"};
  ASSERT_TRUE(train(tiny_recipe(a, sets)).outcome.finished);
  for (Index step = 4; step <= 12; ++step) fs::remove_all(checkpoint_path(a, step));
  poison(checkpoint_path(a, 3), "embedding.weight", element);
  const auto files = tests::files_below(a);
  const Ran ran = train(tiny_recipe(a, sets));
  EXPECT_TRUE(ran.failure.starts_with("step 4: the weights \"embedding.weight\" are not finite")) << ran.failure;
  EXPECT_TRUE(has(ran.failure, "lower optimizer.learning_rate")) << ran.failure;
  EXPECT_FALSE(has(ran.messages, "training goes on")) << ran.messages;
  EXPECT_EQ(tests::files_below(a), files);
  // The last checkpoint, at the end.
  std::vector<std::string> once = sets;
  once.insert(once.end(), {"start=" + a.string(), "train.checkpoint_every=0", "train.steps=2"});
  EXPECT_TRUE(train(tiny_recipe(b, once)).failure.starts_with("step 2: the weights \"embedding.weight\""));
  EXPECT_TRUE(checkpoint_steps(b).empty());
}

TEST_F(TrainerTest, ARunThatCannotBeginLeavesNothing) {
  const fs::path c = folder / "new/c";
  for (const char* set : {"data.sources=[{path: /none.jsonl}]", "tokenizer.path=/none.model"}) {
    EXPECT_NE(train(tiny_recipe(c, {set})).mistake, "") << set;
    EXPECT_FALSE(fs::exists(folder / "new")) << set;
  }
  // With a tokenizer of its own, which it has made by then.
  const Ran ran = train(tiny_recipe(c, {"tokenizer.path=", "tokenizer.vocab_size=420", "model.vocab_size=400"}));
  EXPECT_TRUE(has(ran.mistake, "model.vocab_size is 400")) << ran.mistake;
  EXPECT_FALSE(fs::exists(folder / "new"));
  EXPECT_NE(train(tiny_recipe(c, {"start=/none"})).mistake, "");
  EXPECT_FALSE(fs::exists(c)) << "the shards beside it stay, for the next run";
  // So does what was in the folder before.
  make_folder(b);
  tests::spill(b / "notes.txt", "mine");
  EXPECT_NE(train(tiny_recipe(b, {"start=/none"})).mistake, "");
  EXPECT_TRUE(fs::exists(b / "notes.txt"));
}

TEST_F(TrainerTest, StopsEarlyWhereValidationsGetNoBetter) {
  const std::vector<std::string> sets = {"optimizer.learning_rate=0", "train.validate_every=1",
                                         "train.early_stop_patience=2"};
  const Ran ran = train(tiny_recipe(a, sets));
  EXPECT_EQ(ran.failure + ran.mistake, "");
  EXPECT_TRUE(ran.outcome.finished);
  EXPECT_EQ(ran.outcome.step, 3);
  EXPECT_EQ(ran.outcome.best_step, 1);
  EXPECT_EQ(checkpoint_steps(a), (std::vector<Index>{1, 3}));
  EXPECT_TRUE(has(ran.messages, "tiny: stopped early after 2 validations without a better one")) << ran.messages;
  EXPECT_FALSE(has(ran.messages, "this run is done"));
  const Ran again = train(tiny_recipe(a, sets));
  EXPECT_EQ(again.outcome.step, 3);
  EXPECT_TRUE(has(again.messages, "tiny: this run is done")) << again.messages;
}

TEST_F(TrainerTest, TooFewPairsAreNamed) {
  const std::string none =
      "no pairs to train on: all 300 fell on the validation and test sides; set data.split.train, or give more pairs";
  const std::vector<std::string> held_out = {"data.split.train=0", "data.split.validation=0.5", "data.split.test=0.5"};
  EXPECT_EQ(train(tiny_recipe(a, held_out)).mistake, none);
  std::vector<std::string> own = held_out;
  own.emplace_back("tokenizer.path=");
  EXPECT_EQ(train(tiny_recipe(a, own)).mistake, none);
  EXPECT_TRUE(has(train(tiny_recipe(a, {"tokenizer.path=", "tokenizer.vocab_size=60000"})).mistake,
                  "set tokenizer.vocab_size"));

  const std::vector<std::string> unjudged = {"train.steps=1", "data.split.train=0.9999999",
                                             "data.split.validation=0.0000001", "data.split.test=0"};
  const Ran ran = train(tiny_recipe(b, unjudged));
  EXPECT_EQ(ran.failure + ran.mistake, "");
  EXPECT_TRUE(has(ran.messages, "no pairs to validate on: all 300 fell on the other sides")) << ran.messages;
}

TEST_F(TrainerTest, TheBestCheckpointStays) {
  const Ran ran = train(tiny_recipe(
      a, {"optimizer.learning_rate=0", "train.validate_every=2", "train.checkpoint_every=1", "train.keep=1"}));
  EXPECT_EQ(ran.outcome.best_step, 2);
  EXPECT_EQ(checkpoint_steps(a), (std::vector<Index>{2, 12}));
  EXPECT_EQ(resolve_checkpoint(a), checkpoint_path(a, 2));
}

TEST_F(TrainerTest, ValidatesAndSavesOnlyAtTheEndWhereAsked) {
  const Ran ran = train(tiny_recipe(a, {"train.validate_every=0", "train.steps=3"}));
  EXPECT_EQ(ran.failure + ran.mistake, "");
  EXPECT_EQ(checkpoint_steps(a), (std::vector<Index>{3}));
  ASSERT_EQ(losses(a, "validation").size(), 1u);
  // No pairs to validate on: the last checkpoint is the one that is used.
  const Ran without =
      train(tiny_recipe(b, {"train.steps=3", "data.split.train=1", "data.split.validation=0", "data.split.test=0"}));
  EXPECT_EQ(without.failure + without.mistake, "");
  EXPECT_EQ(losses(b, "validation").size(), 0u);
  EXPECT_EQ(resolve_checkpoint(b), checkpoint_path(b, 3));
}

TEST_F(TrainerTest, StartsFromACheckpoint) {
  ASSERT_TRUE(train(tiny_recipe(a)).outcome.finished);
  const std::string start = "start=" + a.string();
  const Ran ran = train(tiny_recipe(b, {start, "optimizer.learning_rate=0", "train.steps=1", "tokenizer.path="}));
  EXPECT_EQ(ran.failure + ran.mistake, "");
  EXPECT_TRUE(weights(b, 1) == read_file(resolve_checkpoint(a) / "model.safetensors"));

  const fs::path other = folder / "other.model";
  TokenizerConfig config;
  config.vocab_size = 420;
  const std::vector<std::string> prompts = tests::some_prompts(300, 9);
  Tokenizer::train(config, tests::views(prompts), other);
  const fs::path c = folder / "c";
  EXPECT_TRUE(has(train(tiny_recipe(c, {start, "tokenizer.path=" + other.string()})).mistake, "another tokenizer"));
  EXPECT_TRUE(has(train(tiny_recipe(c, {start, "model.width=48"})).mistake, "\"embedding.weight\" is [420, 32]"));
  EXPECT_TRUE(has(train(tiny_recipe(c, {"start=" + (folder / "none").string()})).mistake, "there is no run"));
  EXPECT_TRUE(has(train(tiny_recipe(c, {"model.vocab_size=400"})).mistake, "has 420 pieces"));
  EXPECT_TRUE(checkpoint_steps(c).empty());
}

TEST_F(TrainerTest, MakesATokenizerWhereItHasNone) {
  const auto pieces = [&](const char* vocabulary, bool fresh, const char* steps = "2") {
    const Ran ran = train(tiny_recipe(a, {"tokenizer.path=", std::string("tokenizer.vocab_size=") + vocabulary,
                                          std::string("train.steps=") + steps}),
                          {.fresh = fresh});
    EXPECT_EQ(ran.failure + ran.mistake, "");
    return load_run(a).tokenizer->vocab_size();
  };
  EXPECT_EQ(pieces("400", false), 400);
  EXPECT_EQ(pieces("400", false), 400);
  EXPECT_EQ(pieces("430", true), 430);
  // One from a run that never came to a checkpoint does not count.
  for (const Index step : checkpoint_steps(a)) fs::remove_all(checkpoint_path(a, step));
  EXPECT_EQ(pieces("410", false), 410);
}

TEST_F(TrainerTest, AMistakeDoesNotCostTheOldRun) {
  ASSERT_TRUE(train(tiny_recipe(a, {"train.steps=2"})).outcome.finished);
  const std::string before = weights(a, 2);
  for (const char* set : {"start=/none", "data.sources=[{path: /none.jsonl}]", "tokenizer.path=/none.model"}) {
    EXPECT_NE(train(tiny_recipe(a, {set}), {.fresh = true}).mistake, "");
    EXPECT_TRUE(weights(a, 2) == before);
    EXPECT_TRUE(fs::exists(a / "run.json"));
  }
}

TEST_F(TrainerTest, OneRunAFolder) {
  make_folder(a);
  const int descriptor = ::open((a / ".lock").c_str(), O_RDWR | O_CREAT, 0644);
  ASSERT_EQ(::flock(descriptor, LOCK_EX), 0);
  EXPECT_TRUE(has(train(tiny_recipe(a)).mistake, "another run is writing to " + a.string()));
  ::close(descriptor);
  EXPECT_TRUE(train(tiny_recipe(a, {"train.steps=1"})).outcome.finished);
}

TEST_F(TrainerTest, ARunOfAnotherRecipeIsNotContinued) {
  ASSERT_TRUE(train(tiny_recipe(a)).outcome.finished);
  for (const char* set : {"train.steps=13", "seed=4", "optimizer.learning_rate=0.02", "model.dropout=0",
                          "data.context=64", "prefix.from=0.5", "data.split.similarity=0.6"}) {
    EXPECT_TRUE(has(train(tiny_recipe(a, {set})).mistake, "holds a run of another recipe or other data")) << set;
  }
  const std::string before = weights(a, 12);
  EXPECT_EQ(train(tiny_recipe(a, {"train.log_every=5", "samples.n=1", "train.keep=7"})).mistake, "");
  EXPECT_TRUE(weights(a, 12) == before);
  EXPECT_EQ(train(tiny_recipe(a, {"seed=4", "train.steps=2"}), {.fresh = true}).mistake, "");
  EXPECT_EQ(checkpoint_steps(a), (std::vector<Index>{2}));
  EXPECT_EQ(losses(a).size(), 2u);
}

TEST_F(TrainerTest, PairsThatAreCutAreCounted) {
  const Ran ran = train(tiny_recipe(a, {"train.steps=1", "data.context=16"}));
  EXPECT_TRUE(has(ran.messages, " pairs are longer than the context of 16 and are cut")) << ran.messages;
}

TEST_F(TrainerTest, TheStatedPeakIsTheRunsOwn) {
  const auto peak = [&](const fs::path& run, const char* tokens) {
    EXPECT_TRUE(train(tiny_recipe(run, {"train.steps=1", std::string("batch.tokens=") + tokens})).outcome.finished);
    return Json::parse(read_file(run / "run.json")).at("peak_allocated_bytes").as_integer();
  };
  const auto large = peak(a, "1024");
  EXPECT_LT(peak(b, "128"), large);
}

TEST_F(TrainerTest, PlanSaysWhatARunTakes) {
  const std::vector<std::string> larger = {"model.width=128",  "model.ff_width=512", "model.head_dim=64",
                                           "batch.tokens=512", "batch.documents=32", "train.steps=1"};
  for (std::vector<std::string> sets : std::vector<std::vector<std::string>>{
           {},
           {"model.block=serial", "batch.slots=4", "model.norm=layer", "model.activation=gelu"},
           {"train.recompute=true", "optimizer.name=adafactor", "model.tied=false"},
           {"train.checkpoint_every=3"}}) {
    sets.insert(sets.end(), larger.begin(), larger.end());
    fs::remove_all(a);
    const Recipe recipe = tiny_recipe(a, sets);
    const RunPlan plan = plan_run(recipe, false);
    // In a process of its own: the peak of this one is not this run's.
    tests::spill(folder / "tiny.yaml", dump_recipe(recipe));
    const auto finished = tests::run_process({tests::unfurl_binary(), "train", (folder / "tiny.yaml").string()});
    ASSERT_EQ(finished.code, 0) << finished.error;
    const Json run = Json::parse(read_file(a / "run.json"));
    EXPECT_EQ(plan.parameters, run.at("parameters").as_integer());
    EXPECT_NEAR(static_cast<double>(plan.allocator_peak) / run.at("peak_allocated_bytes").as_number(), 1, 0.05);
#ifndef __SANITIZE_ADDRESS__  // which keeps shadows and freed memory
    const double process = run.at("peak_process_bytes").as_number();
    EXPECT_NEAR(static_cast<double>(plan.process_peak), process, 0.15 * process + 150e6);
#endif
  }
}

}  // namespace
}  // namespace unfurl::train
