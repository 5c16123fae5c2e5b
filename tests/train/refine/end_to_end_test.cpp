// base -> refine -> multi_step -> multi_prefix -> prefix_dropout by the built program, killed at every step.
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <map>
#include <set>

#include "core/files.h"
#include "core/json.h"
#include "tests/support/subprocess.h"
#include "tests/train/data/fixture.h"
#include "tests/train/trainer/fixture.h"
#include "train/corpus/pair.h"
#include "train/data/prepare.h"
#include "train/report/metrics.h"
#include "train/trainer/checkpoint.h"
#include "train/trainer/prefix_shares.h"

namespace unfurl::tests {
namespace {

namespace fs = std::filesystem;
using train::Pair;

/// An image side of a few lines: embeddings by the letters of the text, the image a mean of both texts.
constexpr const char* kSide = R"(import json, sys, time
log, slow, mode = sys.argv[1], float(sys.argv[2]), sys.argv[3]
def embed(text):
    v = [0.01] * 8
    for c in text: v[ord(c) % 8] += 1
    return v
print(json.dumps({"name": "fake", "version": "1", "simulated": True, "embedding_size": 8}), flush=True)
for line in sys.stdin:
    if not line.strip(): continue
    r = json.loads(line)
    with open(log, "a") as f: f.write(r["prompt"] + "\n")
    time.sleep(slow)
    q, p = embed(r["query"]), embed(r["prompt"])
    i = [a + 0.5 * b for a, b in zip(q, p)]
    a = {"id": r["id"], "image_embedding": i, "query_embedding": q, "prompt_embedding": p}
    if mode == "nan": a["image_embedding"][3] = float("nan")
    print(json.dumps(a), flush=True)
)";

class RefineEndToEnd : public testing::Test {
 protected:
  RefineEndToEnd() { std::ofstream(folder_ / "side.py") << kSide; }

  std::string at(const std::string& name) const { return (folder_ / name).string(); }

  /// A pipeline over tiny_corpus() that writes to `name`.
  std::vector<std::string> pipeline(const std::string& name, double slow, const std::string& mode = "good") const {
    const std::string corpus = tiny_corpus().string();
    std::ofstream(at(name + ".yaml")) << "name: tiny\noutput: " << at(name) << R"(
seed: 3
device: cpu
model: {width: 32, layers: 2, heads: 2, head_dim: 16, ff_width: 48, context: 96}
tokenizer: {path: )" << corpus << R"(/tokenizer.model}
data: {sources: [{path: )" << corpus << R"(/pairs.jsonl}]}
batch: {slots: 2, tokens: 256, documents: 16}
optimizer: {learning_rate: 1.0e-2}
schedule: {warmup_steps: 2}
train: {steps: 8, log_every: 1, validate_every: 0, validation_tokens: 500, checkpoint_every: 2}
prefix: {mode: none}
samples: {n: 3, max_tokens: 6}
stages:
  - {name: base, kind: train, data: {part: base}}
  - name: refined
    kind: refine
    start: $base
    refine:
      only_ended: false
      max_queries: 20
      keep: 0.4
      side: {command: "python3 )" << at("side.py")
                                      << " " << at(name + ".log") << " " << slow << " " << mode << R"(", batch: 4}
  - name: steps
    kind: multi_step
    start: $refined
    multi_step: {only_ended: false, max_queries: 70}
    samples: {n: 2}
  - name: multi_prefix
    kind: train
    start: $base
    data:
      part: base
      sources:
        - {path: )" << corpus << R"(/pairs.jsonl}
        - {path: $refined/kept.jsonl, side: train}
        - {path: $steps/pairs.jsonl, side: train}
    prefix: {mode: always}
  - name: prefix_dropout
    kind: train
    start: $multi_prefix
    data:
      part: base
      sources:
        - {path: )" << corpus << R"(/pairs.jsonl}
        - {path: $refined/kept.jsonl, side: train}
        - {path: $steps/pairs.jsonl, side: train}
    prefix: {mode: dropout, from: 0.4, to: 1.0}
    train: {steps: 200, checkpoint_every: 15, log_every: 7}
)";
    return {unfurl_binary(), "run", at(name + ".yaml")};
  }

  static std::string run(std::vector<std::string> command, const std::vector<std::string>& more, int code) {
    command.insert(command.end(), more.begin(), more.end());
    const Finished finished = run_process(command);
    EXPECT_EQ(finished.code, code) << finished.error;
    return finished.out + finished.error;
  }

  static std::size_t bytes(const fs::path& path) {
    std::error_code error;
    const auto size = fs::file_size(path, error);
    return error ? 0 : size;
  }

  TemporaryFolder folder_;
};

TEST_F(RefineEndToEnd, GoesOnAfterAKillAtEveryStep) {
  const std::vector<std::string> whole = pipeline("whole", 0), killed = pipeline("killed", 0.004);
  const std::string output = run(whole, {}, 0);
  EXPECT_TRUE(has(output, "image side: fake; simulated: no image is made")) << output;
  EXPECT_TRUE(has(output, " prompts to 20 queries (4")) << output;
  EXPECT_TRUE(has(output, " %); image side: fake")) << output;
  EXPECT_TRUE(has(run(whole, {}, 0), "[prefix_dropout] done already"));

  const fs::path there = folder_ / "killed";
  const std::vector<std::pair<std::string, std::size_t>> moments = {
      {"base/step-000002/state.json", 1},
      {"refined/expansions.jsonl", 1},
      {"refined/scores.jsonl", 1},
      {"refined/kept.jsonl", 1},
      {"refined/step-000002/state.json", 1},
      {"steps/step-1.jsonl", 1},
      {"steps/step-2.jsonl", 1},
      {"steps/pairs.jsonl", 1},
      {"multi_prefix/step-000002/state.json", 1},
      {"prefix_dropout/step-000030/state.json", 1},
  };
  for (const auto& moment : moments) {
    Process process(killed, {.environment = {"UNFURL_THREADS=1"}});  // which changes nothing
    EXPECT_TRUE(process.wait_until([&] { return bytes(there / moment.first) >= moment.second; }, 120)) << moment.first;
    process.send(SIGKILL);
    process.wait();
    if (moment.first.ends_with("scores.jsonl")) {
      std::ofstream(there / moment.first, std::ios::app) << "{\"key\": \"torn";
    }
  }
  run(killed, {}, 0);

  for (const char* file : {"refined/expansions.jsonl", "refined/scores.jsonl", "refined/kept.jsonl",
                           "refined/refine.json", "steps/step-1.jsonl", "steps/step-3.jsonl", "steps/pairs.jsonl"}) {
    EXPECT_EQ(read_file(folder_ / "whole" / file), read_file(there / file)) << file;
  }
  for (const auto& [stage, step] : {std::pair{"refined", 8}, {"multi_prefix", 8}, {"prefix_dropout", 200}}) {
    const fs::path weights = train::checkpoint_path(stage, step) / "model.safetensors";
    EXPECT_EQ(read_file(folder_ / "whole" / weights), read_file(there / weights)) << stage;
  }
  const auto dropped = [](const fs::path& run) {
    std::vector<std::pair<Index, Index>> counts;
    for (const train::PrefixTenth& tenth : train::prefix_tenths(train::read_metrics(run / "metrics.jsonl"), 200)) {
      counts.emplace_back(tenth.pairs, tenth.dropped);
    }
    return counts;
  };
  EXPECT_EQ(dropped(folder_ / "whole/prefix_dropout"), dropped(there / "prefix_dropout"));
  // Nothing was rendered twice but what was under way at a kill.
  std::map<std::string, int> rendered;
  std::ifstream log(at("killed.log"));
  std::size_t requests = 0;
  for (std::string line; std::getline(log, line); ++requests) ++rendered[line];
  EXPECT_LE(requests, rendered.size() + 3 * 4);
  EXPECT_GE(rendered.size(), 54u);
}

TEST_F(RefineEndToEnd, TheFilesAreWhatTheStepsSay) {
  const std::vector<std::string> command = pipeline("out", 0);
  run(command, {}, 0);
  const fs::path out = folder_ / "out";
  train::DataConfig config;
  config.sources = {{(tiny_corpus() / "pairs.jsonl").string(), 1, train::SourceSide::split}};
  const train::SplitPairs data = train::read_and_split(config);
  std::map<std::string, std::set<train::Side>> sides;
  for (std::size_t i = 0; i < data.pairs.size(); ++i) sides[data.pairs[i].query].insert(data.split.sides[i]);

  // Kept: the best 40 %, all of queries of the re-fine-tune half.
  const std::vector<Pair> kept = train::read_pairs(out / "refined/kept.jsonl");
  for (const Pair& pair : kept) {
    EXPECT_TRUE(pair.simulated) << "a simulated side chose it";
    EXPECT_EQ(pair.prefix, "RFT");
    EXPECT_TRUE(pair.prompt.starts_with(pair.query));
    EXPECT_TRUE(sides[pair.query].contains(train::Side::refine)) << pair.query;
    EXPECT_NE(pair.type, "copy");
  }
  std::vector<double> scores;
  std::ifstream lines(out / "refined/scores.jsonl");
  for (std::string line; std::getline(lines, line);) {
    const Json json = Json::parse(line);
    const Json& terms = json.at("terms");
    scores.push_back(0.6 * terms.at("sim_query_image").as_number() + 0.4 * terms.at("sim_prompt_image").as_number());
    EXPECT_EQ(json.at("simulated"), Json(true));
    EXPECT_EQ(terms.find("aesthetic"), nullptr);
  }
  ASSERT_GE(scores.size(), 54u);
  ASSERT_LE(scores.size(), 60u);
  ASSERT_EQ(kept.size(), static_cast<std::size_t>(std::lround(0.4 * static_cast<double>(scores.size()))));
  std::sort(scores.rbegin(), scores.rend());
  std::ifstream kept_lines(out / "refined/kept.jsonl");
  double least = 2;
  for (std::string line; std::getline(kept_lines, line);) {
    least = std::min(least, Json::parse(line).at("score").as_number());
  }
  EXPECT_NEAR(least, scores[kept.size() - 1], 1e-12);
  const Json report = Json::parse(read_file(out / "refined/refine.json"));
  EXPECT_EQ(report.at("kept"), Json(static_cast<std::int64_t>(kept.size())));
  EXPECT_EQ(report.at("simulated"), Json(true));
  EXPECT_NEAR(report.at("threshold").as_number(), least, 1e-12);
  std::int64_t in_bins = 0;
  for (const Json& bin : report.at("histogram").at("kept").as_array()) in_bins += bin.as_integer();
  EXPECT_EQ(in_bins, static_cast<std::int64_t>(kept.size()));
  EXPECT_TRUE(has(read_file(out / "refined/refine.html"), "simulated"));
  for (const char* name : {"base", "refined", "multi_prefix", "prefix_dropout"}) {
    const Json run = Json::parse(read_file(out / name / "run.json"));
    EXPECT_EQ(run.find("simulated") != nullptr, std::string(name) != "base") << name;
  }
  EXPECT_FALSE(has(read_file(out / "refined/expansions.jsonl"), "\"simulated\"")) << "Base has seen none";
  // It trained on these alone.
  EXPECT_TRUE(has(read_file(out / "refined/recipe.yaml"), "part: none"));

  // Multi-step: each query is the prompt of the step before; none is of a test query.
  const std::vector<Pair> further = train::read_pairs(out / "steps/pairs.jsonl");
  ASSERT_GT(further.size(), 10u);
  std::set<std::string> firsts;
  std::ifstream step(out / "steps/step-1.jsonl");
  for (std::string line; std::getline(step, line);) {
    const Json json = Json::parse(line);
    EXPECT_TRUE(sides[json.at("query").as_string()].contains(train::Side::validation)) << line;
    EXPECT_EQ(json.at("simulated"), Json(true));
    for (const Json& prompt : json.at("prompts").as_array()) firsts.insert(prompt.at("text").as_string());
  }
  std::size_t of_first = 0;
  std::set<std::string> prompts = firsts;
  for (const Pair& pair : further) {
    EXPECT_TRUE(pair.simulated) << "a model that has seen simulated pairs made it";
    EXPECT_EQ(pair.prefix, "MSTP");
    EXPECT_TRUE(pair.prompt.starts_with(pair.query) && pair.prompt.size() > pair.query.size());
    EXPECT_TRUE(prompts.contains(pair.query)) << pair.query;
    of_first += firsts.contains(pair.query);
    prompts.insert(pair.prompt);
  }
  EXPECT_GT(of_first, 0u);
  EXPECT_LT(of_first, further.size());

  // The prefixed set: the base half, and all synthetic pairs.
  const std::string said = run(command, {"--fresh", "--only", "multi_prefix"}, 0);
  const auto expected = data.split.base + static_cast<Index>(kept.size() + further.size());
  EXPECT_TRUE(has(said, std::to_string(expected) + " pairs to train on")) << said;

  // Prefix dropout follows its schedule, within sampling error, at every tenth of the run.
  const auto tenths = train::prefix_tenths(train::read_metrics(out / "prefix_dropout/metrics.jsonl"), 200);
  ASSERT_EQ(tenths.size(), 10u);
  for (std::size_t i = 0; i < 10; ++i) {
    EXPECT_GT(tenths[i].pairs, 80) << i;
    EXPECT_LT(std::abs(tenths[i].deviation()), 4) << i;
    EXPECT_NEAR(tenths[i].schedule(), 0.4 + 0.6 * (20.0 * static_cast<double>(i) + 9.5) / 199, 0.01) << i;
  }
  EXPECT_TRUE(has(read_file(out / "prefix_dropout/report.html"), "Dropped prefixes"));

  // Of six expansions the two whose prompts the side embeds farthest apart.
  std::vector<std::string> expand = {unfurl_binary(),
                                     "expand",
                                     (out / "base").string(),
                                     "a fox",
                                     "-n",
                                     "2",
                                     "--diverse",
                                     "6",
                                     "--seed",
                                     "1",
                                     "--max-tokens",
                                     "6",
                                     "--json",
                                     "--image-side",
                                     "python3 " + at("side.py") + " " + at("expand.log") + " 0 good"};
  const Json two = Json::parse(run_process(expand).out);
  EXPECT_EQ(two.at("expansions").as_array().size(), 2u);
  std::ifstream embedded(at("expand.log"));
  std::set<std::string> drawn;
  for (std::string line; std::getline(embedded, line);) drawn.insert(line);
  EXPECT_EQ(drawn.size(), 6u);
  for (const Json& item : two.at("expansions").as_array()) EXPECT_TRUE(drawn.contains(item.at("text").as_string()));
  expand[6] = "--steps";
  EXPECT_TRUE(has(run(expand, {}, 2), "it needs --diverse"));

  // Another stage that would draw and render the same takes it over.
  const std::size_t asked = bytes(at("out.log"));
  const std::string side = "python3 " + at("side.py") + " " + at("out.log") + " 0 good";
  const std::string over = run(pipeline("second", 0),
                               {"--only", "refined", "--set", "stages.refined.start=" + (out / "base").string(),
                                "--set", "stages.refined.refine.like=" + (out / "refined").string(), "--set",
                                "stages.refined.refine.side.command=" + side},
                               0);
  EXPECT_TRUE(has(over, "the expansions are those of")) << over;
  EXPECT_TRUE(has(over, "the scores are those of")) << over;
  EXPECT_EQ(bytes(at("out.log")), asked);
  EXPECT_EQ(read_file(folder_ / "second/refined/kept.jsonl"), read_file(out / "refined/kept.jsonl"));
  const std::string own = run(pipeline("third", 0),
                              {"--only", "refined", "--set", "stages.refined.start=" + (out / "base").string(), "--set",
                               "stages.refined.refine.like=" + (out / "refined").string(), "--set", "seed=4"},
                              0);
  EXPECT_FALSE(has(own, "are those of")) << own;

  // Another threshold asks neither the model nor the image side again.
  const std::string again = run(
      command,
      {"--only", "refined", "--set", "stages.refined.refine.per=query", "--set", "stages.refined.refine.keep=0.1"}, 0);
  EXPECT_TRUE(has(again, "20 queries expanded already")) << again;
  EXPECT_TRUE(has(again, "warning: refine.keep 0.1 of the pairs of ")) << again;
  EXPECT_TRUE(has(again, " queries is less than half a pair: one of each is kept; 33.")) << again;
  const std::size_t of_each = train::read_pairs(out / "refined/kept.jsonl").size();  // one of each query
  EXPECT_GE(of_each, 18u);
  EXPECT_LE(of_each, 20u);
  EXPECT_EQ(bytes(at("out.log")), asked);
  EXPECT_FALSE(has(again, "goes on from")) << again;
  // Controls: at random as many, all, and real pairs; the first two need no image side.
  const std::string none = "stages.refined.refine.side.command=";
  const auto control = [&](const std::vector<std::string>& sets) {
    std::vector<std::string> more = {"--only", "refined"};
    for (const std::string& set : sets) {
      more.push_back("--set");
      more.push_back(set);
    }
    run(command, more, 0);
    return train::read_pairs(out / "refined/kept.jsonl");
  };
  const std::vector<Pair> random = control({none, "stages.refined.refine.select=random"});
  EXPECT_EQ(random.size(), kept.size());
  EXPECT_NE(random, kept);
  EXPECT_EQ(control({none, "stages.refined.refine.select=all"}).size(), scores.size());
  const std::vector<Pair> real =
      control({none, "stages.refined.refine.select=all", "stages.refined.refine.pairs=real"});
  EXPECT_EQ(real.size(), 20u);
  for (const Pair& pair : real) {
    const auto same = [&](const Pair& other) { return other.query == pair.query && other.prompt == pair.prompt; };
    EXPECT_TRUE(std::any_of(data.pairs.begin(), data.pairs.end(), same)) << pair.prompt;
  }
}

TEST_F(RefineEndToEnd, BadInputIsOneLine) {
  const auto message = [&](const std::vector<std::string>& command, const std::vector<std::string>& sets, int code) {
    std::vector<std::string> more;
    for (const std::string& set : sets) {
      more.push_back("--set");
      more.push_back(set);
    }
    return run(command, more, code);
  };
  const std::vector<std::string> command = pipeline("bad", 0);
  run(command, {"--only", "base"}, 0);
  const std::vector<std::string> fixed = {"stages.refined.refine.threshold=fixed"};
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.end(), fixed.begin(), fixed.end());
    return more;
  };
  EXPECT_TRUE(has(message(command, with({"stages.refined.refine.at_least=2"}), 2), "; 0."));
  EXPECT_TRUE(
      has(message(command, with({"stages.refined.refine.at_least=2"}), 2), "error: refine.at_least 2 keeps none of "));
  EXPECT_TRUE(has(message(command, with({"stages.refined.refine.per=type"}), 2),
                  "refine.per: type goes with refine.threshold: quantile; a fixed threshold is one for all pairs: set "
                  "refine.per: all, or refine.threshold: quantile"));
  EXPECT_TRUE(has(message(command, {"stages.refined.refine.score=[{term: sim_query_imag}]"}, 2),
                  "did you mean \"sim_query_image\"?"));
  EXPECT_TRUE(has(message(command, {"stages.refined.refine.side.command="}, 2), "set refine.side.command"));
  EXPECT_TRUE(has(message(command, {"stages.refined.start="}, 2), "start is missing"));
  EXPECT_TRUE(has(message(command, {"stages.refined.refine.score=[{term: aesthetic}]"}, 2),
                  "the image side gives no aesthetic score"));
  EXPECT_TRUE(has(message(command, {"stages.refined.refine.only_ended=true", "samples.max_tokens=1"}, 2),
                  "has an expansion that the model ended itself"));
  EXPECT_TRUE(has(message(command, {"stages.refined.refine.keep=0"}, 2), "refine.keep must be"));
  // A threshold that keeps everything: a warning, and it goes on.
  std::vector<std::string> all = {"--only", "refined", "--set", fixed[0], "--set", "stages.refined.refine.at_least=-1"};
  EXPECT_TRUE(has(run(command, all, 0), " pairs: refine.at_least -1 is not above the lowest score, 0."));
  // Embeddings that are no numbers.
  const std::vector<std::string> nan = pipeline("bad", 0, "nan");
  const std::string said = run(nan,
                               {"--only", "refined", "--set", "stages.refined.refine.side.retries=0", "--set",
                                "stages.refined.refine.side.cache=" + at("empty")},
                               1);
  EXPECT_TRUE(has(said, "error: ") && has(said, "NaN")) << said;
}

}  // namespace
}  // namespace unfurl::tests
