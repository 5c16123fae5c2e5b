// The built program as a person uses it: every command once, from a corpus to expansions.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "core/device.h"
#include "core/files.h"
#include "core/json.h"
#include "tests/support/subprocess.h"
#include "tests/train/data/fixture.h"
#include "tests/train/trainer/fixture.h"
#include "train/corpus/pair.h"
#include "train/trainer/checkpoint.h"

namespace unfurl::tests {
namespace {

namespace fs = std::filesystem;

std::string succeed(std::vector<std::string> arguments, const ProcessSettings& settings = {}) {
  arguments.insert(arguments.begin(), unfurl_binary());
  const Finished finished = run_process(arguments, settings);
  EXPECT_EQ(finished.code, 0) << testing::PrintToString(arguments) << "\n" << finished.error;
  EXPECT_FALSE(has(finished.error, "error:")) << finished.error;
  return finished.out;
}

TEST(EndToEnd, FromACorpusToExpansions) {
  const TemporaryFolder folder;
  const auto at = [&](const char* name) { return (folder / name).string(); };
  succeed({"corpus", "synth", "--pairs", "300", "--heldout-pairs", "5", "--out", at("corpus")});
  const std::string pairs = at("corpus/pairs.jsonl"), tokenizer = at("t/tokenizer.model");
  succeed({"tokenizer", "train", pairs, "--vocab-size", "420", "--out", tokenizer});
  const std::vector<std::string> sets = {"--set", "tokenizer.path=" + tokenizer, "--set",
                                         "data.sources=[{path: " + pairs + "}]"};
  const auto with_sets = [&](std::vector<std::string> arguments) {
    arguments.insert(arguments.end(), sets.begin(), sets.end());
    return arguments;
  };
  write_file(folder / "tiny.yaml", tiny_recipe_text(folder / "runs/tiny"));

  const Json plan = Json::parse(succeed(with_sets({"plan", at("tiny.yaml"), "--json"})));
  EXPECT_EQ(plan.at("steps").as_integer(), 12);
  EXPECT_GT(plan.at("seconds").as_number(), 0);
  EXPECT_TRUE(has(succeed(with_sets({"plan", at("tiny.yaml")})), "GFLOP/s measured here"));

  succeed(with_sets({"train", at("tiny.yaml"), "--profile"}));
  const Json trace = Json::parse(read_file(folder / "runs/tiny/trace.json"));
  std::set<std::string> seen;
  for (const Json& event : trace.at("traceEvents").as_array()) {
    EXPECT_EQ(event.at("ph").as_string(), "X");
    EXPECT_GE(event.at("dur").as_number(), 0);
    seen.insert(event.at("name").as_string());
  }
  for (const char* name : {"step", "forward", "backward", "optimiser", "linear", "attention"}) {
    EXPECT_TRUE(seen.contains(name)) << name;
  }

  const Json eval = Json::parse(succeed({"eval", at("runs/tiny"), "--json", "--set", "eval.queries=3"}));
  EXPECT_GT(eval.at("all").at("bits_per_byte").as_number(), 1);
  EXPECT_GT(eval.at("all").at("pairs").as_integer(), 5);
  const Json& opening = eval.at("opening");
  EXPECT_EQ(opening.at("pairs").as_integer(), eval.at("all").at("opening_with_query").as_integer());
  EXPECT_LT(opening.at("bits_per_byte_forced").as_number(), opening.at("bits_per_byte").as_number());
  EXPECT_EQ(opening.at("bits_per_byte_after").as_number(), eval.at("all").at("bits_per_byte_after").as_number());
  EXPECT_TRUE(has(succeed({"eval", at("runs/tiny"), "--pairs", at("corpus/heldout.jsonl"), "--set", "eval.queries=2"}),
                  "bits per byte of held-out prompts"));

  const std::vector<std::string> expand = {"expand", at("runs/tiny"), "a fox, (red:1.2)", "-n", "3", "--seed",
                                           "7",      "--json",        "--max-tokens",     "12"};
  const std::string text = succeed(expand);
  EXPECT_EQ(text, succeed(expand));
  const Json expansions = Json::parse(text);
  EXPECT_EQ(expansions.at("query").as_string(), "a fox, (red:1.2)");
  ASSERT_EQ(expansions.at("expansions").as_array().size(), 3u);
  for (const Json& expansion : expansions.at("expansions").as_array()) {
    EXPECT_TRUE(expansion.at("text").as_string().starts_with("a fox, (red:1.2)")) << expansion.dump();
  }
  const std::string served = succeed({"expand", at("runs/tiny"), "--jsonl", "--seed", "7", "--max-tokens", "6"},
                                     {.input = "{\"query\": \"a fox\", \"n\": 2}\nnot json\n{\"query\": \"\"}\n"
                                               "{\"query\": \"a fox\", \"prefix\": \"XYZ\"}\n"});
  EXPECT_EQ(std::count(served.begin(), served.end(), '\n'), 4) << served;
  write_file(folder / "queries.txt", "a fox\na castle\n");
  EXPECT_TRUE(
      has(succeed({"expand", at("runs/tiny"), "--file", at("queries.txt"), "-n", "1", "--seed", "1"}), "a castle"));

  if (why_unusable(Device::host_cuda).empty()) {
    std::vector<std::string> greedy = {"expand", at("runs/tiny"), "a fox", "-n",           "1", "--temperature",
                                       "0",      "--seed",        "1",     "--max-tokens", "8", "--weights",
                                       "f32",    "--device"};
    const auto on = [&](const std::vector<std::string>& device) {
      std::vector<std::string> all = greedy;
      all.insert(all.end(), device.begin(), device.end());
      return succeed(all);
    };
    EXPECT_EQ(on({"host_cuda", "--precision", "f32"}), on({"cpu"}));
    EXPECT_TRUE(on({"host_cuda"}).starts_with("a fox"));
    EXPECT_TRUE(on({"host_cuda", "--ban", "castle"}).starts_with("a fox"));
    const Json there =
        Json::parse(succeed({"eval", at("runs/tiny"), "--json", "--set", "eval.queries=1", "--set", "samples.n=1",
                             "--set", "samples.max_tokens=6", "--set", "device=host_cuda"}));
    EXPECT_EQ(there.at("all").dump(), eval.at("all").dump());
  }
  if (!why_unusable(Device::cuda).empty()) {
    const Finished none = run_process({unfurl_binary(), "expand", at("runs/tiny"), "a fox", "--device", "cuda"}, {});
    EXPECT_EQ(none.code, 2);
    EXPECT_TRUE(has(none.error, "device is cuda, but this program was built without CUDA") ||
                has(none.error, "device is cuda, but no GPU can be used: "))
        << none.error;
    EXPECT_TRUE(has(none.error, "; use --device cpu")) << none.error;
    EXPECT_EQ(std::count(none.error.begin(), none.error.end(), '\n'), 1) << none.error;
  }

  const std::string shown = succeed({"inspect", at("runs/tiny"), "--tensors"});
  EXPECT_TRUE(has(shown, "layers.1.attention_output.weight"));
  EXPECT_TRUE(has(shown,
                  "  model        width 32, 2 layers, 2 heads of 16 (1 for keys and values), feed-forward 48, context "
                  "96, vocabulary 420\n"))
      << shown;
  const std::size_t seconds = shown.find("  seconds      ") + 15;
  EXPECT_EQ(shown.find('.', seconds) + 2, shown.find('\n', seconds)) << "rounded: " << shown;
  const Json inspected = Json::parse(succeed({"inspect", at("runs/tiny"), "--json"}));
  EXPECT_EQ(inspected.at("parameters").as_integer(), plan.at("parameters").as_integer());
  EXPECT_EQ(inspected.at("model").at("ff_width").as_integer(), 48);
  EXPECT_TRUE(has(succeed({"inspect", at("runs/tiny/step-000012/model.safetensors")}), "elements"));
  EXPECT_TRUE(has(succeed({"corpus", "show", pairs, "--tokenizer", tokenizer, "-n", "1"}), "<sep>"));
}

/// What a pipeline says of each stage: the names of those that were skipped, and of those that ran.
struct Stages {
  std::vector<std::string> skipped, ran;
};

Stages stages_of(const std::string& messages) {
  Stages out;
  for (std::size_t at = 0; at < messages.size();) {
    const std::size_t end = std::min(messages.find('\n', at), messages.size());
    const std::string line = messages.substr(at, end - at);
    at = end + 1;
    const std::size_t close = line.find(']');
    if (!line.starts_with('[') || close == std::string::npos) continue;
    (line.ends_with("done already") ? out.skipped : out.ran).push_back(line.substr(1, close - 1));
  }
  return out;
}

using Names = std::vector<std::string>;

TEST(EndToEnd, APipelineDoesWhatIsNotDoneYet) {
  const TemporaryFolder folder;
  const std::string recipe = (folder / "pipe.yaml").string();
  write_file(recipe, R"(name: pipe
output: )" + (folder / "out").string() +
                         R"(
model: {width: 32, layers: 1, heads: 2, head_dim: 16, ff_width: 32, context: 96}
tokenizer: {path: $tokenizer/tokenizer.model, vocab_size: 420}
data: {sources: [{path: $corpus/pairs.jsonl}], pairs: 300}
batch: {slots: 1, tokens: 256, documents: 16}
train: {steps: 3, checkpoint_every: 1}
samples: {queries: [a fox], n: 1, max_tokens: 6}
eval: {pairs: 20, queries: 2}
stages:
  - {name: corpus, kind: synth}
  - {name: tokenizer, kind: tokenizer}
  - {name: base, kind: train, data: {part: base}, prefix: {mode: none}}
  - {name: prefixes, kind: train, start: $base}
  - {name: compare, kind: eval}
  - {name: show, kind: expand}
)");
  const auto run = [&](std::vector<std::string> more = {}) {
    more.insert(more.begin(), {unfurl_binary(), "run", recipe});
    const Finished finished = run_process(more);
    EXPECT_EQ(finished.code, 0) << finished.error;
    EXPECT_FALSE(has(finished.error, "error:")) << finished.error;
    return stages_of(finished.error);
  };
  const Names all = {"corpus", "tokenizer", "base", "prefixes", "compare", "show"};
  EXPECT_EQ(run().ran, all);
  const Json eval = Json::parse(read_file(folder / "out/compare/eval.json"));
  EXPECT_EQ(eval.as_array().size(), 2u);
  EXPECT_TRUE(has(read_file(folder / "out/show/expansions.txt"), "a fox"));
  const std::string base = read_file(folder / "out/base/run.json");

  EXPECT_EQ(run().skipped, all);
  EXPECT_EQ(run({"--set", "stages.prefixes.train.steps=4"}).ran, (Names{"prefixes", "compare", "show"}));
  EXPECT_EQ(run({"--set", "stages.prefixes.train.steps=4"}).skipped, all);
  EXPECT_EQ(train::checkpoint_steps(folder / "out/prefixes").back(), 4);
  EXPECT_EQ(run().ran, (Names{"prefixes", "compare", "show"}));
  EXPECT_EQ(train::checkpoint_steps(folder / "out/prefixes").back(), 3);
  EXPECT_EQ(run({"--set", "stages.show.samples.queries=[a castle]"}).ran, Names{"show"});
  EXPECT_EQ(run({"--set", "stages.show.samples.queries=[a castle]", "--set", "eval.pairs=10"}).ran, Names{"compare"});
  EXPECT_EQ(read_file(folder / "out/base/run.json"), base);

  // What is gone is made again; the same bytes leave what depends on it alone.
  fs::remove(folder / "out/tokenizer/tokenizer.model");
  fs::remove(folder / "out/show/expansions.txt");
  EXPECT_EQ(run({"--set", "eval.pairs=10"}).ran, (Names{"tokenizer", "show"}));
  EXPECT_EQ(run({"--set", "eval.pairs=10", "--only", "base", "--fresh"}).ran, Names{"base"});
  EXPECT_EQ(run({"--set", "eval.pairs=10", "--set", "data.pairs=310"}).ran, all);
}

TEST(EndToEnd, AnInterruptedPipelineGoesOn) {
  const TemporaryFolder folder;
  const std::string recipe = (folder / "tiny.yaml").string();
  write_file(recipe, tiny_recipe_text(folder / "out") +
                         "stages: [{name: base, kind: train, batch: {micro_batches: 1}, train: {steps: 150}}]\n");
  Process process({unfurl_binary(), "run", recipe});
  const fs::path metrics = folder / "out/base/metrics.jsonl";
  ASSERT_TRUE(process.wait_until([&] { return fs::exists(metrics) && fs::file_size(metrics) > 600; }));
  process.send(SIGTERM);
  const Finished stopped = process.wait();
  EXPECT_EQ(stopped.code, 143) << stopped.error;
  const auto steps = train::checkpoint_steps(folder / "out/base");
  ASSERT_FALSE(steps.empty());  // more than one, where this process had to wait for its turn
  EXPECT_LT(steps.back(), 150);
  const Finished finished = run_process({unfurl_binary(), "run", recipe});
  EXPECT_EQ(finished.code, 0) << finished.error;
  EXPECT_TRUE(has(finished.error, "goes on from ")) << finished.error;
  EXPECT_EQ(losses(folder / "out/base").size(), 150u);
}

TEST(EndToEnd, AStageRunsPrograms) {
  const TemporaryFolder folder;
  const std::string recipe = (folder / "p.yaml").string();
  const auto stages = [&](const std::string& second) {
    write_file(recipe,
               "name: p\noutput: " + (folder / "out").string() +
                   "\nstages:\n"
                   "  - {name: first, kind: command, commands: [\"cp /dev/null '$OUT/it''s'\", unfurl --version]}\n"
                   "  - " +
                   second + "\n");
  };
  stages("{name: second, kind: command, inputs: [$first], commands: [\"cp $first/its --target-directory=$OUT\"]}");
  EXPECT_EQ(succeed({"run", recipe}), "unfurl 0.1.0\n");
  EXPECT_TRUE(fs::exists(folder / "out/second/its"));
  EXPECT_EQ(succeed({"run", recipe}), "");  // both are done
  stages("{name: second, kind: command, commands: [false, cp $first/its $OUT/c]}");
  const Finished failed = run_process({unfurl_binary(), "run", recipe});
  EXPECT_EQ(failed.code, 1);
  EXPECT_TRUE(has(failed.error, "false ended with code 1")) << failed.error;
  EXPECT_FALSE(fs::exists(folder / "out/second/c"));
  stages("{name: second, kind: command, commands: [no-such-program-here]}");
  EXPECT_TRUE(has(run_process({unfurl_binary(), "run", recipe}).error, "cannot run no-such-program-here"));
  stages("{name: second, kind: command}");
  EXPECT_TRUE(has(run_process({unfurl_binary(), "run", recipe}).error, "commands is missing"));
  stages("{name: second, kind: command, commands: [cp $frist/a b]}");
  EXPECT_TRUE(has(run_process({unfurl_binary(), "run", recipe}).error, "$frist/a names no stage"));
}

}  // namespace
}  // namespace unfurl::tests
