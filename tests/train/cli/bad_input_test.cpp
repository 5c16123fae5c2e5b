// What the built program says to bad input: one clear line, the right exit code, nothing half-written.
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <functional>

#include "core/files.h"
#include "core/json.h"
#include "tests/support/subprocess.h"
#include "tests/train/data/fixture.h"
#include "tests/train/trainer/fixture.h"
#include "train/data/tokenizer.h"
#include "train/report/metrics.h"
#include "train/trainer/checkpoint.h"

namespace unfurl::tests {
namespace {

namespace fs = std::filesystem;

Finished unfurl(std::vector<std::string> arguments, const ProcessSettings& settings = {}) {
  arguments.insert(arguments.begin(), unfurl_binary());
  return run_process(arguments, settings);
}

std::size_t count(const std::string& text, std::string_view part) {
  std::size_t found = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++found;
  return found;
}

/// The program ended with this code, and one error line, its last, that holds every part.
void expect_error(const Finished& finished, int code, const std::vector<std::string>& parts) {
  EXPECT_EQ(finished.code, code);
  EXPECT_EQ(count(finished.error, "error: "), 1u) << finished.error;
  std::string last = finished.error;
  while (last.ends_with('\n')) last.pop_back();
  last = last.substr(last.rfind('\n') + 1);
  EXPECT_TRUE(last.starts_with("error: ")) << finished.error;
  for (const std::string& part : parts) EXPECT_TRUE(has(last, part)) << "\"" << part << "\" is not in: " << last;
  for (const char* never : {"terminate called", "Sanitizer", "std::", "filesystem error"}) {
    EXPECT_FALSE(has(finished.error, never)) << finished.error;
  }
}

/// Nothing half-written: no file aside, no shards that are not whole, no checkpoint without all its files.
void expect_nothing_half_written(const fs::path& folder) {
  const std::vector<std::string> files = files_below(folder);
  for (const std::string& file : files) {
    EXPECT_FALSE(fs::path(file).extension() == ".tmp") << file;
    if (!fs::is_directory(folder / file)) continue;
    const std::string name = fs::path(file).filename().string();
    if (name.starts_with("shards-")) {
      EXPECT_TRUE(fs::exists(folder / file / "complete")) << file;
    } else if (name.starts_with("step-")) {
      EXPECT_NO_THROW(train::verify_checkpoint(folder / file)) << file;
    }
  }
}

class BadInput : public testing::Test {
 protected:
  std::string at(const std::string& name) const { return (folder / name).string(); }

  /// A recipe that writes to out/tiny, with lines added to it.
  std::string recipe(const std::string& more = "") const {
    spill(folder / "tiny.yaml", tiny_recipe_text(folder / "out/tiny") + more);
    return at("tiny.yaml");
  }
  Finished train(std::vector<std::string> sets = {}, const ProcessSettings& settings = {}) const {
    std::vector<std::string> arguments = {"train", recipe()};
    for (std::string& set : sets) {
      arguments.push_back("--set");
      arguments.push_back(std::move(set));
    }
    return unfurl(arguments, settings);
  }
  /// A finished run of one step.
  std::string trained() const {
    const Finished finished = train({"train.steps=1"});
    EXPECT_EQ(finished.code, 0) << finished.error;
    return at("out/tiny");
  }
  const TemporaryFolder folder;
};

TEST_F(BadInput, RecipesOfUnknownKeysAndWrongTypes) {
  const auto lines = count(tiny_recipe_text(folder / "out/tiny"), "\n");
  const std::string next = "tiny.yaml:" + std::to_string(lines + 1) + ": ";
  const auto error = [&](const std::string& more) { return unfurl({"train", recipe(more)}); };
  expect_error(error("optimiser: {learning_rate: 1}\n"), 2, {next, "\"optimiser\"", "did you mean \"optimizer\"?"});
  expect_error(error("eval: {pairs: 3, quereis: 3}\n"), 2, {next, "\"quereis\"", "did you mean \"queries\"?"});
  expect_error(error("eval: {pairs: many}\n"), 2, {next, "eval.pairs", "\"many\""});
  expect_error(error("eval: [1, 2]\n"), 2, {next, "eval", "a list"});
  expect_error(error("eval: {side: testing}\n"), 2, {next, "eval.side", "test"});
  expect_error(error("eval: {pairs: -1}\n"), 2, {next, "eval.pairs"});
  expect_error(error("eval: {pairs: 1\n"), 2, {"tiny.yaml:"});
  expect_error(error("seed: 3\n"), 2, {next, "seed"});
  expect_error(error("extends: none.yaml\n"), 2, {"none.yaml"});
  expect_error(train({"train.stps=5"}), 2, {"--set train.stps=5", "did you mean \"steps\"?"});
  expect_error(train({"train.steps=1.5"}), 2, {"--set train.steps=1.5"});
  expect_error(train({"optimizer.learning_rate=1e30"}), 2, {"optimizer.learning_rate"});
  expect_error(train({"optimizer.learning_rate=nan"}), 2, {"optimizer.learning_rate"});
  expect_error(train({"batch.slots=3"}), 2, {"power of two"});
  expect_error(train({"samples.prefix=FLW"}), 2, {"there is no prefix \"FLW\"", "did you mean \"FLV\"?"});
  EXPECT_FALSE(fs::exists(folder / "out"));
}

TEST_F(BadInput, MissingFiles) {
  expect_error(unfurl({"train", at("none.yaml")}), 2, {"none.yaml", "No such file"});
  expect_error(unfurl({"run", at("none.yaml")}), 2, {"none.yaml", "No such file"});
  expect_error(unfurl({"train", folder.path().string()}), 2, {"it is a folder"});
  expect_error(train({"data.sources=[{path: " + at("none.jsonl") + "}]"}), 2, {"none.jsonl", "No such file"});
  expect_error(train({"data.sources=[]"}), 2, {"names no data"});
  expect_error(train({"tokenizer.path=" + at("none.model")}), 2, {"none.model"});
  expect_error(train({"start=" + at("none")}), 2, {"there is no run", at("none")});
  expect_error(unfurl({"eval", at("none")}), 2, {"there is no run", at("none")});
  expect_error(unfurl({"inspect", at("none")}), 2, {"there is no run", at("none")});
  expect_error(unfurl({"expand", at("none"), "a fox"}), 2, {"there is no run", at("none")});
  expect_error(unfurl({"corpus", "pairs", "--prompts", at("none.txt"), "--out", at("p.jsonl")}), 2, {"none.txt"});
  expect_nothing_half_written(folder.path());
  EXPECT_FALSE(fs::exists(folder / "p.jsonl"));
}

TEST_F(BadInput, BadLinesAreNamedAndCounted) {
  const std::string good = read_file(tiny_corpus() / "pairs.jsonl");
  const std::string long_words = [] {
    std::string words = "zebra";
    for (int i = 0; i < 200; ++i) words += " lantern" + std::to_string(i);
    return words;
  }();
  const std::vector<std::pair<std::string, std::string>> bad = {
      {"", "empty line"},
      {"{\"query\": \"a fox\"", "not JSON"},
      {"{\"query\": \"caf\xe9\", \"prompt\": \"caf\xe9, oil\"}", "invalid UTF-8"},
      {"{\"query\": \"\", \"prompt\": \"a fox\"}", "query is empty"},
      {"{\"query\": \"a fox\", \"prompt\": \"  \"}", "prompt is empty"},
      {"{\"query\": \"a fox\"}", "prompt is missing"},
      {"{\"query\": 5, \"prompt\": \"a fox\"}", "query must be a string"},
      {"{\"query\": \"a fox\", \"prompt\": \"a fox, oil\", \"prefix\": \"XYZ\"}", "there is no prefix \"XYZ\""},
      {"[1]", "not an object"}};
  const auto source = "data.sources=[{path: " + at("pairs.jsonl") + "}]";
  for (const auto& [line, why] : bad) {
    SCOPED_TRACE(why);
    spill(folder / "pairs.jsonl", line + "\n" + good);
    fs::remove_all(folder / "out");
    const Finished finished = train({source, "train.steps=1"});
    EXPECT_EQ(finished.code, 0) << finished.error;
    EXPECT_TRUE(has(finished.error, "warning: ") && has(finished.error, "pairs.jsonl:1: " + why)) << finished.error;
    EXPECT_EQ(count(finished.error, "error: "), 0u);
  }
  // Each of them four times: more than the share of 1 %, the first are named, all are counted.
  std::string all;
  for (int i = 0; i < 4; ++i) {
    for (const auto& [line, why] : bad) all += line + "\n";
  }
  spill(folder / "pairs.jsonl", good + all);
  fs::remove_all(folder / "out");
  const auto lines = count(good, "\n");
  expect_error(train({source}), 2, {"pairs.jsonl:" + std::to_string(lines + 1) + ": empty line", "36"});
  expect_nothing_half_written(folder.path());
  const Finished tolerant = train({source, "data.bad_line_share=0.2", "train.steps=1"});
  EXPECT_EQ(tolerant.code, 0) << tolerant.error;
  EXPECT_TRUE(has(tolerant.error, "36")) << tolerant.error;

  spill(folder / "pairs.jsonl", "");
  expect_error(train({source}), 2, {"pairs.jsonl"});
  // A pair longer than the context is cut and counted.
  spill(folder / "pairs.jsonl", good + "{\"query\": \"a zebra\", \"prompt\": \"" + long_words + "\"}\n");
  fs::remove_all(folder / "out");
  const Finished cut =
      train({source, "train.steps=1", "data.split.train=1", "data.split.validation=0", "data.split.test=0"});
  EXPECT_EQ(cut.code, 0) << cut.error;
  EXPECT_TRUE(has(cut.error, "pairs are longer than the context of 96 and are cut")) << cut.error;
  expect_nothing_half_written(folder.path());
}

TEST_F(BadInput, ATokenizerOfAnotherModel) {
  const std::string run = trained();
  const std::vector<std::string> prompts = some_prompts(300, 9);
  unfurl::train::TokenizerConfig config;
  config.vocab_size = 420;
  unfurl::train::Tokenizer::train(config, views(prompts), folder / "other.model");
  expect_error(train({"start=" + run, "output=" + at("out/b"), "tokenizer.path=" + at("other.model")}), 2,
               {"another tokenizer", "other.model"});
  expect_error(train({"model.vocab_size=4096", "output=" + at("out/c")}), 2, {"model.vocab_size", "420 pieces"});
  // The same run with another tokenizer is another run.
  expect_error(train({"train.steps=1", "tokenizer.path=" + at("other.model")}), 2, {"another recipe or other data"});
  spill(folder / "garbage.model", "not a tokenizer at all");
  expect_error(train({"tokenizer.path=" + at("garbage.model"), "output=" + at("out/d")}), 2, {"garbage.model"});
  fs::copy_file(folder / "other.model", run + "/step-000001/tokenizer.model", fs::copy_options::overwrite_existing);
  expect_error(unfurl({"eval", run}), 2, {"tokenizer.model is damaged"});
  EXPECT_FALSE(fs::exists(folder / "out/b"));
}

TEST_F(BadInput, DamagedCheckpoints) {
  const std::string run = trained();
  const fs::path file = run + "/step-000001/model.safetensors";
  const std::string whole = read_file(file);
  std::string flipped = whole;
  flipped[whole.size() - 5] = static_cast<char>(flipped[whole.size() - 5] ^ 1);
  std::string wild = whole;
  wild[6] = 0x7f;  // the header's length
  for (const std::string& bytes :
       {whole.substr(0, whole.size() - 100), whole.substr(0, 5), flipped, wild, std::string()}) {
    spill(file, bytes);
    for (const std::vector<std::string>& command :
         std::vector<std::vector<std::string>>{{"expand", run, "a fox"}, {"eval", run}, {"inspect", run}}) {
      expect_error(unfurl(command), 2, {file.string(), "damaged"});
    }
    if (&bytes != &flipped && bytes != flipped) {
      expect_error(unfurl({"inspect", file.string()}), 2, {file.string()});
    }
    expect_error(train({"start=" + run, "output=" + at("out/b")}), 2, {file.string()});
  }
  EXPECT_FALSE(fs::exists(folder / "out/b"));
  spill(run + "/step-000001/state.json", "{\"format\": 1");
  expect_error(unfurl({"expand", run, "a fox"}), 2, {"state.json is damaged"});
}

TEST_F(BadInput, QueriesAndOptions) {
  const std::string run = trained();
  expect_error(unfurl({"expand", run, "a fox", "-n", "0"}), 2, {"must be from 1 to 256, got \"0\""});
  expect_error(unfurl({"expand", run, "a fox", "--prefix", "FLW"}), 2, {"there is no prefix", "\"FLV\""});
  expect_error(unfurl({"expand", run, ""}), 2, {"the query is empty"});
  expect_error(unfurl({"expand", run, " \t "}), 2, {"the query is empty"});
  expect_error(unfurl({"expand", run, "caf\xe9"}), 2, {"UTF-8"});
  spill(folder / "bans.txt", std::string("\0\xff\n\1", 4));
  expect_error(unfurl({"expand", run, "a fox", "--ban", at("bans.txt")}), 2, {"2 of 2 lines are not phrases"});
  expect_error(unfurl({"corpus", "pairs", "--prompts", at("bans.txt"), "--out", at("p.jsonl")}), 2,
               {"bans.txt:1: invalid UTF-8; ", "bans.txt:2: a control character"});
  expect_error(unfurl({"eval", run, "--set", "eval.sied=test"}), 2, {"\"sied\"", "did you mean \"side\"?"});
  expect_error(unfurl({"eval", run, "--set", "model.width=32"}), 2,
               {"only device, precision and keys of eval, samples and data"});
  expect_error(unfurl({"eval", run, "--pairs", at("none.jsonl")}), 2, {"none.jsonl"});
  expect_error(unfurl({"run", recipe()}), 2, {"lists no stages"});
  expect_error(unfurl({"run", recipe("stages: [{name: a, kind: synth}]\n"), "--only", "b"}), 2, {"no stage \"b\""});
  expect_error(unfurl({"train", recipe("stages: [{name: a, kind: synth}]\n")}), 2, {"unfurl run"});
  // Served requests: a bad one is answered, and the next one too.
  const Finished served = unfurl({"expand", run, "--jsonl", "--max-tokens", "4"},
                                 {.input = "{\"query\": \"a fox\", \"n\": 0}\n{\"query\": \"a fox\", \"n\": 1}\n"});
  EXPECT_EQ(served.code, 0) << served.error;
  EXPECT_EQ(count(served.out, "\n"), 2u);
  EXPECT_EQ(count(served.out, "\"error\""), 1u) << served.out;
}

TEST_F(BadInput, UnwritableFolders) {
  spill(folder / "file", "");
  expect_error(train({"output=" + at("file/run")}), 1, {at("file/run")});
  expect_error(unfurl({"corpus", "synth", "--pairs", "20", "--out", at("file/corpus")}), 1, {at("file/corpus")});
  const std::string pairs = (tiny_corpus() / "pairs.jsonl").string();
  expect_error(unfurl({"tokenizer", "train", pairs, "--vocab-size", "420", "--out", at("file/t.model")}), 1,
               {at("file")});
  expect_error(unfurl({"run", recipe("stages: [{name: a, kind: synth}]\n"), "--set", "output=" + at("file/x")}), 1,
               {at("file/x")});
}

TEST_F(BadInput, AFolderWithoutPermission) {
  if (::geteuid() == 0) GTEST_SKIP() << "root may write to any folder";
  fs::create_directories(folder / "locked");
  ::chmod(at("locked").c_str(), 0555);
  expect_error(train({"output=" + at("locked/run")}), 1, {at("locked")});
  EXPECT_TRUE(fs::is_empty(folder / "locked"));
  ::chmod(at("locked").c_str(), 0755);
}

TEST_F(BadInput, ADiskThatTakesNoCheckpoint) {
  // Files end at 200 KB: shards and metrics fit, an optimiser's state does not.
  const Finished finished = train({"train.checkpoint_every=5", "train.steps=11"}, {.file_bytes = 200'000});
  expect_error(finished, 1, {"the last checkpoint could not be written", at("out/tiny")});
  EXPECT_TRUE(has(finished.error, "warning: checkpoint of step 5: ")) << finished.error;
  // It is tried for a while, in which the next is due: that is not left out.
  EXPECT_TRUE(has(finished.error, "warning: checkpoint of step 10: ")) << finished.error;
  EXPECT_TRUE(has(finished.error, "training goes on")) << finished.error;
  EXPECT_EQ(losses(folder / "out/tiny").size(), 11u);
  EXPECT_TRUE(unfurl::train::checkpoint_steps(folder / "out/tiny").empty());
  expect_nothing_half_written(folder.path());
  // With room again the same command does it.
  EXPECT_EQ(train({"train.checkpoint_every=5", "train.steps=11"}).code, 0);
  EXPECT_EQ(unfurl::train::checkpoint_steps(folder / "out/tiny").back(), 11);

  expect_error(unfurl({"corpus", "synth", "--pairs", "3000", "--out", at("corpus")}, {.file_bytes = 100'000}), 1,
               {at("corpus")});
  expect_nothing_half_written(folder.path());
  EXPECT_FALSE(fs::exists(folder / "corpus/pairs.jsonl"));
}

/// A disk of 400 KB, where this process may mount one.
struct SmallDisk {
  explicit SmallDisk(fs::path where) : path(std::move(where)) {
    fs::create_directories(path);
    mounted = ::mount("tmpfs", path.c_str(), "tmpfs", 0, "size=400k") == 0;
  }
  ~SmallDisk() {
    if (mounted) ::umount2(path.c_str(), MNT_DETACH);
  }
  SmallDisk(const SmallDisk&) = delete;
  SmallDisk& operator=(const SmallDisk&) = delete;
  const fs::path path;
  bool mounted = false;
};

TEST_F(BadInput, AFullDisk) {
  const SmallDisk small(folder / "disk");
  if (!small.mounted) GTEST_SKIP() << "only root may mount the small disk that this test fills";
  const fs::path& disk = small.path;
  const auto run = [&](std::vector<std::string> sets) {
    sets.push_back("output=" + (disk / "runs/tiny").string());
    return train(std::move(sets));
  };
  // Checkpoints do not fit.
  const Finished finished = run({"train.checkpoint_every=5", "model.ff_width=256"});
  expect_error(finished, 1, {"the last checkpoint could not be written"});
  EXPECT_TRUE(has(finished.error, "No space left") && has(finished.error, "training goes on")) << finished.error;
  EXPECT_EQ(losses(disk / "runs/tiny").size(), 12u);
  expect_nothing_half_written(disk);
  // Nothing fits: whatever comes first ends the run by one line.
  std::string filling(300'000, 'x');
  while (!filling.empty()) {
    try {
      write_file(disk / ("fill" + std::to_string(filling.size())), filling);
    } catch (const Error&) {
      filling.resize(filling.size() / 2);
    }
  }
  expect_error(run({"seed=9", "data.split.similarity=0.9"}), 1, {"No space left"});
  expect_nothing_half_written(disk / "runs/tiny");
  expect_error(unfurl({"corpus", "synth", "--pairs", "1000", "--out", (disk / "corpus").string()}), 1,
               {"No space left"});
  expect_error(unfurl({"tokenizer", "train", (tiny_corpus() / "pairs.jsonl").string(), "--vocab-size", "420", "--out",
                       (disk / "t.model").string()}),
               1, {"No space left"});
  expect_nothing_half_written(disk);
}

TEST_F(BadInput, APathThatIsEmptyIsNamed) {
  const std::string run = at("none"), file = at("x.jsonl");
  const auto empty = [&](const std::vector<std::string>& arguments, const char* what) {
    expect_error(unfurl(arguments), 2, {std::string(what) + ": must not be empty; try `unfurl " + arguments[0]});
  };
  empty({"corpus", "synth", "--out", ""}, "unfurl corpus synth: --out");
  empty({"corpus", "pairs", "--prompts", "", "--out", file}, "--prompts");
  empty({"corpus", "pairs", "--prompts", file, "--out", ""}, "--out");
  empty({"corpus", "show", "", "--tokenizer", file}, "file");
  empty({"tokenizer", "train", file, "--out", ""}, "--out");
  expect_error(unfurl({"tokenizer", "train", file, "--out="}), 2, {"--out: 1 required FILE missing"});
  empty({"tokenizer", "train", "", "--out", file}, "files");
  empty({"eval", run, "--pairs", ""}, "--pairs");
  empty({"eval", ""}, "run");
  empty({"expand", run, "--file", ""}, "--file");
  empty({"inspect", ""}, "path");
  expect_error(unfurl({"train", ""}), 2, {"a recipe is missing"});
  expect_error(train({"data.sources=[{weight: 2}]"}), 2, {"--set data.sources", "data.sources.0.path is missing"});
  EXPECT_FALSE(fs::exists(folder / "out"));
}

TEST_F(BadInput, ThreadsThatTheEnvironmentMisspells) {
  for (const char* bad : {"0", "-3", "abc", "1e9"}) {
    const std::string variable = std::string("UNFURL_THREADS=") + bad;
    const std::string got = std::string("UNFURL_THREADS must be from 1 to 1024, got \"") + bad + "\"";
    expect_error(train({}, {.environment = {variable}}), 2, {got});
    expect_error(unfurl({"inspect", at("none")}, {.environment = {variable}}), 2, {got});
  }
  EXPECT_FALSE(fs::exists(folder / "out"));
  EXPECT_EQ(train({"train.steps=1"}, {.environment = {"UNFURL_THREADS="}}).code, 0);
  const std::vector<std::string> given = {"train", recipe(), "--threads", "1", "--set", "train.steps=1"};
  EXPECT_EQ(unfurl(given, {.environment = {"UNFURL_THREADS=abc"}}).code, 0) << "an option is over the environment";
}

TEST_F(BadInput, ASignalLeavesNoHalfWrittenFile) {
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    Process process({unfurl_binary(), "corpus", "synth", "--pairs", "50000000", "--out", at("corpus")});
    const fs::path half = folder / "corpus/pairs.jsonl.tmp";
    ASSERT_TRUE(process.wait_until([&] { return fs::exists(half) && fs::file_size(half) > 0; }));
    process.send(signal);
    EXPECT_EQ(process.wait().code, 256 + signal);
    EXPECT_TRUE(files_below(folder / "corpus").empty()) << testing::PrintToString(files_below(folder / "corpus"));
  }
  // What a kill left is written over.
  spill(folder / "corpus/pairs.jsonl.tmp", std::string(1 << 20, 'x'));
  EXPECT_EQ(unfurl({"corpus", "synth", "--pairs", "20", "--out", at("corpus")}).code, 0);
  EXPECT_EQ(files_below(folder / "corpus"), (std::vector<std::string>{"heldout.jsonl", "pairs.jsonl"}));
}

TEST_F(BadInput, AnInterruptSavesAndTheNextRunGoesOn) {
  const std::vector<std::string> sets = {"train.steps=120", "batch.micro_batches=1", "train.validate_every=0"};
  std::vector<std::string> command = {unfurl_binary(), "train", recipe()};
  for (const std::string& set : sets) command.insert(command.end(), {"--set", set});
  Process process(command);
  const fs::path metrics = folder / "out/tiny/metrics.jsonl";
  ASSERT_TRUE(process.wait_until([&] { return fs::exists(metrics) && fs::file_size(metrics) > 600; }));
  process.send(SIGINT);
  const Finished stopped = process.wait();
  EXPECT_EQ(stopped.code, 130) << stopped.error;
  EXPECT_EQ(count(stopped.error, "error: "), 0u) << stopped.error;
  const auto steps = unfurl::train::checkpoint_steps(folder / "out/tiny");
  ASSERT_EQ(steps.size(), 1u);
  EXPECT_LT(steps[0], 120);
  EXPECT_TRUE(has(stopped.error, "stopped at step " + std::to_string(steps[0]))) << stopped.error;
  EXPECT_FALSE(Json::parse(read_file(folder / "out/tiny/run.json")).at("finished").as_bool());
  expect_nothing_half_written(folder.path());
  EXPECT_EQ(train(sets).code, 0);

  std::vector<std::string> whole = sets;
  whole.push_back("output=" + at("out/whole"));
  EXPECT_EQ(train(whole).code, 0);
  EXPECT_EQ(losses(folder / "out/tiny"), losses(folder / "out/whole"));
  EXPECT_TRUE(read_file(folder / "out/tiny/step-000120/model.safetensors") ==
              read_file(folder / "out/whole/step-000120/model.safetensors"));
}

TEST_F(BadInput, AKilledRunLeavesItsLastCheckpoint) {
  std::vector<std::string> command = {
      unfurl_binary(), "train", recipe(), "--set", "train.checkpoint_every=1", "--set", "train.steps=100000"};
  for (const Index target : {2, 5, 9}) {
    Process process(command);
    ASSERT_TRUE(process.wait_until([&] {
      const auto steps = unfurl::train::checkpoint_steps(folder / "out/tiny");
      return !steps.empty() && steps.back() >= target;
    }));
    process.send(SIGKILL);
    EXPECT_EQ(process.wait().code, 256 + SIGKILL);
    const auto newest = unfurl::train::newest_checkpoint(folder / "out/tiny");
    ASSERT_TRUE(newest);
    EXPECT_NO_THROW(unfurl::train::verify_checkpoint(*newest));
  }
}

}  // namespace
}  // namespace unfurl::tests
