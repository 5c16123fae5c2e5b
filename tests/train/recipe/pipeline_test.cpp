#include "train/recipe/pipeline.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "core/files.h"
#include "tests/support/temporary_folder.h"

namespace unfurl::tests {
namespace {

using namespace unfurl::train;

constexpr const char* kText = R"(
output: out
model: {preset: palm-tiny, layers: 2}
data: {sources: [{path: $corpus/pairs.jsonl}], pairs: 100}
tokenizer: {path: $tokenizer/tokenizer.model}
train: {steps: 50}
stages:
  - kind: synth
    name: corpus
  - kind: tokenizer
  - {name: base, kind: train, data: {part: base}, model: {dropout: 0.1}}
  - {name: dropout, kind: train, start: $base, train: {steps: 20}, prefix: {mode: dropout}, output: special}
  - {name: again, kind: train, start: $dropout/checkpoints/best}
  - {kind: expand}
  - {kind: eval, runs: [$again, elsewhere/run]}
)";

class PipelineTest : public testing::Test {
 protected:
  Pipeline load(const std::string& text, const std::vector<std::string>& sets = {}) {
    write_file(folder_.path() / "p.yaml", text);
    return load_pipeline(folder_.path() / "p.yaml", sets);
  }
  std::string message(const std::string& text, const std::vector<std::string>& sets = {}) {
    try {
      load(text, sets);
    } catch (const UserError& e) {
      const std::string what = e.what();
      const std::size_t at = what.find("p.yaml");
      return at == std::string::npos ? what : what.substr(at);
    }
    return "";
  }
  TemporaryFolder folder_;
};

TEST_F(PipelineTest, ResolvesEachStage) {
  const Pipeline pipeline = load(kText);
  EXPECT_EQ(pipeline.name, "p");
  EXPECT_EQ(pipeline.output, "out");
  ASSERT_EQ(pipeline.stages.size(), 7u);
  const auto& s = pipeline.stages;
  const Stage &corpus = s[0], &tokenizer = s[1], &base = s[2], &dropout = s[3], &again = s[4], &expand = s[5],
              &eval = s[6];
  EXPECT_EQ(corpus.kind, StageKind::synth);
  EXPECT_EQ(corpus.recipe.output, "out/corpus");
  EXPECT_EQ(tokenizer.name, "tokenizer");
  EXPECT_EQ(tokenizer.recipe.name, "tokenizer");
  EXPECT_EQ(tokenizer.recipe.data.sources[0].path, "out/corpus/pairs.jsonl");
  EXPECT_EQ(base.recipe.data.part, DataPart::base);
  EXPECT_EQ(base.recipe.data.pairs, 100);
  EXPECT_EQ(base.recipe.model.layers, 2);
  EXPECT_EQ(base.recipe.model.dropout, 0.1);
  EXPECT_EQ(base.recipe.tokenizer.path, "out/tokenizer/tokenizer.model");
  EXPECT_EQ(base.recipe.train.steps, 50);
  EXPECT_EQ(base.recipe.start, "");
  EXPECT_EQ(dropout.recipe.start, "out/base");
  EXPECT_EQ(dropout.recipe.train.steps, 20);
  EXPECT_EQ(dropout.recipe.data.part, DataPart::all);
  EXPECT_EQ(dropout.recipe.output, "special");
  EXPECT_EQ(again.recipe.start, "special/checkpoints/best");
  EXPECT_EQ(expand.runs, (std::vector<std::string>{"out/base", "special", "out/again"}));
  EXPECT_EQ(eval.runs, (std::vector<std::string>{"out/again", "elsewhere/run"}));
}

TEST_F(PipelineTest, SetReachesStagesByNumberAndName) {
  const Pipeline pipeline =
      load(kText, {"stages.2.train.steps=5", "stages.dropout.prefix.to=0.9", "seed=11", "output=o", "train.steps=6"});
  EXPECT_EQ(pipeline.stages[2].recipe.train.steps, 5);
  EXPECT_EQ(pipeline.stages[3].recipe.prefix.to, 0.9);
  EXPECT_EQ(pipeline.stages[4].recipe.train.steps, 6);
  EXPECT_EQ(pipeline.stages[0].recipe.seed, 11);
  EXPECT_EQ(pipeline.stages[1].recipe.output, "o/tokenizer");
}

TEST_F(PipelineTest, MistakesNameTheStage) {
  EXPECT_EQ(
      message("stages:\n  - name: a\n"),
      "p.yaml:2: this stage needs a kind: one of synth, pairs, split, tokenizer, pretrain, train, refine, multi_step, "
      "expand, eval, judge, command");
  EXPECT_EQ(message("stages:\n  - kind: trian\n"),
            "p.yaml:2: stage.kind must be one of synth | pairs | split | tokenizer | pretrain | train | refine | "
            "multi_step | expand | eval | judge | "
            "command, got "
            "\"trian\"; did you mean \"train\"?");
  EXPECT_EQ(message("stages:\n  - kind: train\n    trian: {}\n"),
            "p.yaml:3: unknown key \"trian\" in the recipe; did you mean \"train\"?");
  EXPECT_EQ(message("stages: [{kind: train}, {kind: train}]"),
            "p.yaml:1: there are two stages named \"train\": give one another name");
  EXPECT_EQ(message("stages: [{kind: train, start: $bsae}, {kind: train, name: base}]"),
            "p.yaml:1: stage train: $bsae names no stage; did you mean \"base\"?");
  EXPECT_EQ(message("stages: [{kind: train, batch: {slots: 3}}]"),
            "p.yaml: stage train: batch.slots must be a power of two, got 3");
  EXPECT_EQ(message("stages: []"), "p.yaml:1: stages is empty");
  EXPECT_EQ(message("stages: 3"), "p.yaml:1: stages must be a list, got \"3\"");
  EXPECT_EQ(message("stages: [3]"), "p.yaml:1: a stage is a map of keys, got \"3\"");
  EXPECT_TRUE(message("seed: 1").starts_with("p.yaml: this recipe lists no stages: start it by `unfurl train "));
  write_file(folder_.path() / "p.yaml", kText);
  EXPECT_THROW(load_recipe(folder_.path() / "p.yaml"), UserError);
  EXPECT_TRUE(is_pipeline(folder_.path() / "p.yaml"));
}

TEST_F(PipelineTest, VariablesStandForText) {
  const std::string text =
      "variables: {name: a, world: \"${name}.yaml\", n: 3}\nstages:\n  - {name: x, kind: command, commands: [\"run "
      "${world} -n "
      "${n}${n}\"]}\n";
  const Pipeline standard = load(text), other = load(text, {"variables.world=b c.yaml"});
  EXPECT_EQ(standard.stages[0].commands[0], "'run' 'a.yaml' '-n' '33'");
  EXPECT_EQ(other.stages[0].commands[0], "'run' 'b' 'c.yaml' '-n' '33'");
  const auto with = [](const std::string& command) {
    return "variables: {world: a}\nstages:\n  - {name: x, kind: command, commands: [\"" + command + "\"]}\n";
  };
  EXPECT_EQ(message(with("run ${wrld}")), "p.yaml:3: ${wrld} is none of the variables; did you mean \"world\"?");
  EXPECT_EQ(message(with("run ${world")), "p.yaml:3: \"${\" has no end in \"run ${world\"");
  EXPECT_EQ(message("variables: [1]\nstages:\n  - kind: synth\n"), "p.yaml:1: variables must be a map, got a list");
}

TEST_F(PipelineTest, AStageReadsOnlyWhatIsMadeBeforeIt) {
  const std::string before = "data: {sources: [{path: a.jsonl}]}\nstages:\n";
  EXPECT_EQ(message(before + "  - {kind: train, name: a,\n     start: $b}\n  - {kind: train, name: b}\n"),
            "p.yaml:4: stage a: it reads $b, but that stage comes later; name a stage before it");
  EXPECT_EQ(message(before + "  - {kind: train, name: a, start: $a/step-000010}\n"),
            "p.yaml:3: stage a: it reads $a/step-000010, but that is its own folder; name a stage before it");
  EXPECT_EQ(
      message(before + "  - {kind: train, name: a}\n  - {kind: eval, runs: [$a, $b]}\n  - {kind: train, name: b}"),
      "p.yaml:4: stage eval: it reads $b, but that stage comes later; name a stage before it");
  EXPECT_EQ(message("tokenizer: {path: $t/t.model}\n" + before + "  - {kind: train, name: a}\n" +
                    "  - {kind: tokenizer, name: t}\n"),
            "p.yaml:1: stage a: it reads $t/t.model, but that stage comes later; name a stage before it");
  EXPECT_TRUE(
      message(before + "  - {kind: train, name: a}\n", {"stages.a.start=$a"}).starts_with("--set stages.a.start"))
      << message(before + "  - {kind: train, name: a}\n", {"stages.a.start=$a"});
}

TEST_F(PipelineTest, PathsThatAreMissingAreNamed) {
  EXPECT_EQ(message("stages:\n  - {kind: pairs}\n"),
            "p.yaml:2: stage pairs: data.prompts is missing: the list of prompts, one a line");
  EXPECT_EQ(message("stages:\n  - {kind: eval, runs: [\"\"]}\n"),
            "p.yaml:2: stage eval: an item of runs is empty; name a run's folder");
  EXPECT_EQ(message("data:\n  sources:\n    - {path: a}\n    - {weight: 2}\nstages: [{kind: synth}]\n"),
            "p.yaml:4: data.sources.1.path is missing or empty: JSONL of pairs {\"query\", \"prompt\", \"prefix\"?, "
            "\"id\"?}");
}

TEST_F(PipelineTest, TheResolvedFormReadsBack) {
  const Pipeline pipeline = load(kText);
  const Pipeline again = load(pipeline.resolved);
  EXPECT_EQ(again.resolved, pipeline.resolved);
  ASSERT_EQ(again.stages.size(), pipeline.stages.size());
  for (std::size_t i = 0; i < again.stages.size(); ++i) {
    EXPECT_EQ(dump_recipe(again.stages[i].recipe), dump_recipe(pipeline.stages[i].recipe));
    EXPECT_EQ(again.stages[i].runs, pipeline.stages[i].runs);
  }
  // Another folder moves every stage that has none of its own.
  EXPECT_EQ(load(pipeline.resolved, {"output=new"}).stages[3].recipe.start, "new/base");
}

TEST_F(PipelineTest, TheHashOfAStageSeesItsOwnKeysAlone) {
  const Pipeline before = load(kText);
  const Pipeline after = load(kText, {"samples.n=9", "optimizer.learning_rate=0.5", "stages.dropout.train.steps=7"});
  const auto same = [&](std::size_t i) { return stage_hash(before.stages[i]) == stage_hash(after.stages[i]); };
  EXPECT_TRUE(same(0));
  EXPECT_TRUE(same(1));
  EXPECT_FALSE(same(2));
  EXPECT_FALSE(same(3));
  EXPECT_FALSE(same(5));
  EXPECT_FALSE(same(6));  // an evaluation draws samples too
  EXPECT_NE(stage_hash(before.stages[2]), stage_hash(before.stages[4]));
}

TEST_F(PipelineTest, InputsByKind) {
  const Pipeline pipeline = load(kText);
  EXPECT_TRUE(stage_inputs(pipeline.stages[0]).empty());
  EXPECT_EQ(stage_inputs(pipeline.stages[1]), std::vector<std::string>{"out/corpus/pairs.jsonl"});
  EXPECT_EQ(stage_inputs(pipeline.stages[3]),
            (std::vector<std::string>{"out/corpus/pairs.jsonl", "out/tokenizer/tokenizer.model", "out/base"}));
  EXPECT_EQ(stage_inputs(pipeline.stages[6]),
            (std::vector<std::string>{"out/corpus/pairs.jsonl", "out/again", "elsewhere/run"}));
}

}  // namespace
}  // namespace unfurl::tests
