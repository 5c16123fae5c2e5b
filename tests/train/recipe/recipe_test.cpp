#include "train/recipe/recipe.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "core/files.h"
#include "tests/support/temporary_folder.h"

namespace unfurl::tests {
namespace {

using namespace unfurl::train;

/// The message of the UserError that `act` throws; "" where it throws none.
template <class Act>
std::string message_of(Act&& act) {
  try {
    act();
  } catch (const UserError& e) {
    return e.what();
  }
  return "";
}

std::string message_of_text(const std::string& text) {
  return message_of([&] { parse_recipe(text, "r.yaml"); });
}

TEST(Recipe, ReadsWhatIsGivenAndKeepsTheDefaults) {
  const Recipe recipe = parse_recipe(
      "seed: 7\n"
      "model: {width: 96, norm: layer, tied: false}\n"
      "data:\n"
      "  sources:\n"
      "    - {path: a.jsonl, weight: 2.5}\n"
      "    - path: b.jsonl\n"
      "optimizer: {learning_rate: 3e-4}\n"
      "samples: {queries: [a cat, \"12\"]}\n",
      "small.yaml");
  EXPECT_EQ(recipe.name, "small");
  EXPECT_EQ(recipe.output, "runs/small");
  EXPECT_EQ(recipe.seed, 7);
  EXPECT_EQ(recipe.model.width, 96);
  EXPECT_EQ(recipe.model.ff_width, 4 * 96);
  EXPECT_EQ(recipe.model.norm, NormKind::layer);
  EXPECT_FALSE(recipe.model.tied);
  ASSERT_EQ(recipe.data.sources.size(), 2u);
  EXPECT_EQ(recipe.data.sources[0].weight, 2.5);
  EXPECT_EQ(recipe.data.sources[1].path, "b.jsonl");
  EXPECT_EQ(recipe.data.sources[1].weight, 1);
  EXPECT_EQ(recipe.optimizer.learning_rate, 3e-4);
  EXPECT_EQ(recipe.samples.queries, (std::vector<std::string>{"a cat", "12"}));
  EXPECT_EQ(recipe.batch.slots, 8);
}

TEST(Recipe, AnEmptyRecipeIsTheDefaults) { EXPECT_EQ(parse_recipe("", "x.yaml").train.steps, TrainConfig().steps); }

TEST(Recipe, APresetFillsWhatIsNotGiven) {
  const Recipe recipe = parse_recipe("model: {layers: 3, preset: palm-350m}", "x.yaml");
  EXPECT_EQ(recipe.model.layers, 3);
  EXPECT_EQ(recipe.model.width, 1024);
  EXPECT_EQ(recipe.model.heads, 8);
  EXPECT_EQ(recipe.model.kv_heads, 1);
  EXPECT_EQ(recipe.model.head_dim, 128);
  EXPECT_EQ(recipe.model.ff_width, 4096);
  EXPECT_EQ(recipe.tokenizer.vocab_size, 32000);
  EXPECT_EQ(message_of_text("model:\n  preset: palm-15m"),
            "r.yaml:2: there is no preset \"palm-15m\"; did you mean \"palm-25m\"?; there are palm-tiny, palm-25m, "
            "palm-125m, palm-350m, palm-1b");
}

TEST(Recipe, MistakesNameTheLineAndTheKey) {
  EXPECT_EQ(message_of_text("seed: 1\noptimizer:\n  lr_rate: 1\n"),
            "r.yaml:3: unknown key \"lr_rate\" in optimizer; did you mean \"learning_rate\"?");
  EXPECT_EQ(message_of_text("optimiser: {}"),
            "r.yaml:1: unknown key \"optimiser\" in the recipe; did you mean \"optimizer\"?");
  EXPECT_EQ(message_of_text("qqqqq: 1"), "r.yaml:1: unknown key \"qqqqq\" in the recipe");
  EXPECT_EQ(message_of_text("data: {sources: [{path: a, wieght: 1}]}"),
            "r.yaml:1: unknown key \"wieght\" in data.sources.0; did you mean \"weight\"?");
  EXPECT_EQ(message_of_text("train:\n  steps: many"),
            "r.yaml:2: train.steps must be an integer >= 1 and <= 1000000000000, got \"many\"");
  EXPECT_EQ(message_of_text("train: {steps: 1.5}"),
            "r.yaml:1: train.steps must be an integer >= 1 and <= 1000000000000, got \"1.5\"");
  EXPECT_EQ(message_of_text("train: {steps: 0}"),
            "r.yaml:1: train.steps must be an integer >= 1 and <= 1000000000000, got \"0\"");
  EXPECT_EQ(message_of_text("seed: 99999999999999999999"),
            "r.yaml:1: seed must be an integer >= 0 and at most 9223372036854775807, got \"99999999999999999999\"");
  EXPECT_EQ(message_of_text("seed: 9223372036854775807"), "");
  EXPECT_EQ(message_of_text("data: {sources: [{weight: 2}]}"),
            "r.yaml:1: data.sources.0.path is missing or empty: JSONL of pairs {\"query\", \"prompt\", \"prefix\"?, "
            "\"id\"?}");
  EXPECT_EQ(message_of_text("data:\n  sources:\n    - {path: \"\"}\n").substr(0, 47),
            "r.yaml:3: data.sources.0.path is missing or emp");
  EXPECT_EQ(message_of_text("data: {sources: [~]}").substr(0, 47), "r.yaml:1: data.sources.0.path is missing or emp");
  EXPECT_EQ(message_of_text("seed: [1]"), "r.yaml:1: seed must be an integer >= 0, got a list");
  EXPECT_EQ(message_of_text("seed:"), "r.yaml:1: seed must be an integer >= 0, got nothing");
  EXPECT_EQ(message_of_text("model: {tied: 1}"), "r.yaml:1: model.tied must be true or false, got \"1\"");
  EXPECT_EQ(message_of_text("model: 3"), "r.yaml:1: model must be a map of keys, got \"3\"");
  EXPECT_EQ(message_of_text("optimizer: {name: adam}"),
            "r.yaml:1: optimizer.name must be one of adamw | adafactor, got \"adam\"; did you mean \"adamw\"?");
  EXPECT_EQ(message_of_text("optimizer: {beta2: .nan}"),
            "r.yaml:1: optimizer.beta2 must be a number >= 0 and <= 0.9999999, got \".nan\"");
  for (const char* bad : {"inf", "-inf", "nan"}) {
    EXPECT_EQ(message_of_text(std::string("refine: {threshold: fixed, at_least: ") + bad + "}"),
              std::string("r.yaml:1: refine.at_least must be finite, got \"") + bad + "\"");
  }
  EXPECT_EQ(message_of_text("samples: {top_p: 0}"), "r.yaml:1: samples.top_p must be a number > 0 and <= 1, got \"0\"");
  EXPECT_EQ(message_of_text("data: {sources: a.jsonl}"), "r.yaml:1: data.sources must be a list, got \"a.jsonl\"");
  EXPECT_EQ(message_of_text("- 1"), "r.yaml:1: the recipe must be a map of keys, got a list");
  EXPECT_EQ(message_of_text("seed: 1\nseed: 2"), "r.yaml:2: \"seed\" is given twice");
  EXPECT_TRUE(message_of_text("seed: 1\n---\nseed: 2").starts_with("r.yaml: more than one YAML document"));
  const std::string deep(3000, '[');
  EXPECT_EQ(message_of_text("model: " + deep), "r.yaml:1: nested too deep");
  EXPECT_EQ(message_of_text("<<: {seed: 2}"), "r.yaml:1: unknown key \"<<\" in the recipe");
  EXPECT_TRUE(message_of_text("a: [1\nb: 2").starts_with("r.yaml:2: ")) << message_of_text("a: [1\nb: 2");
}

TEST(Recipe, RulesBetweenKeys) {
  EXPECT_EQ(message_of_text("model: {head_dim: 63}"), "r.yaml: model.head_dim must be even, got 63");
  EXPECT_EQ(message_of_text("model: {heads: 4, kv_heads: 3}"),
            "r.yaml: model.heads (4) must be a multiple of model.kv_heads (3)");
  EXPECT_EQ(message_of_text("batch: {slots: 6}"), "r.yaml: batch.slots must be a power of two, got 6");
  EXPECT_EQ(message_of_text("batch: {tokens: 64}"),
            "r.yaml: batch.tokens (64) must hold the longest sequence: at least data.context (128)");
  EXPECT_EQ(message_of_text("data: {context: 200}"), "r.yaml: data.context (200) must be at most model.context (128)");
  EXPECT_EQ(message_of_text("data: {split: {train: 0.8}}"),
            "r.yaml: data.split: train, validation and test must add up to 1, got 1.1");
  EXPECT_EQ(message_of_text("name: a/b"), "r.yaml: name must be fit for a folder, got \"a/b\"");
}

TEST(Recipe, AliasesCannotBlowUp) {
  std::string text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 9; ++i) {
    text += fmt::format("a{}: &a{} [", i, i);
    for (int j = 0; j < 10; ++j) text += fmt::format("{}*a{}", j ? ", " : "", i - 1);
    text += "]\n";
  }
  EXPECT_TRUE(message_of_text(text).ends_with("more than 100000 values"));
}

TEST(Recipe, DeepNestingIsAnError) { EXPECT_NE(message_of_text(std::string(100'000, '[')), ""); }

TEST(Recipe, ExtendsMergesMapsAndReplacesLists) {
  const TemporaryFolder folder;
  make_folder(folder.path() / "base");
  write_file(folder.path() / "base/base.yaml",
             "seed: 3\nmodel: {width: 32, layers: 2}\nsamples: {queries: [a, b], n: 2}\n");
  write_file(folder.path() / "middle.yaml", "extends: base/base.yaml\nmodel: {layers: 5}\nsamples: {queries: [c]}\n");
  write_file(folder.path() / "top.yaml", "extends: middle.yaml\ntrain: {steps: 9}\nmodel:\n");
  const Recipe recipe = load_recipe(folder.path() / "top.yaml");
  EXPECT_EQ(recipe.name, "top");
  EXPECT_EQ(recipe.seed, 3);
  EXPECT_EQ(recipe.model.width, 32);
  EXPECT_EQ(recipe.model.layers, 5);
  EXPECT_EQ(recipe.train.steps, 9);
  EXPECT_EQ(recipe.samples.queries, std::vector<std::string>{"c"});
  EXPECT_EQ(recipe.samples.n, 2);

  // A mistake in the file below is named with that file.
  write_file(folder.path() / "base/base.yaml", "seed: 3\nmodle: {}\n");
  EXPECT_TRUE(message_of([&] {
                load_recipe(folder.path() / "top.yaml");
              }).starts_with((folder.path() / "base/base.yaml").string() + ":2: unknown key \"modle\""));
}

TEST(Recipe, ExtendsFindsCyclesAndMissingFiles) {
  const TemporaryFolder folder;
  write_file(folder.path() / "a.yaml", "seed: 1\nextends: b.yaml\n");
  write_file(folder.path() / "b.yaml", "extends: ./a.yaml\n");
  const std::string cycle = message_of([&] { load_recipe(folder.path() / "a.yaml"); });
  EXPECT_TRUE(cycle.ends_with("b.yaml:1: extends \"./a.yaml\", which extends this file again")) << cycle;
  write_file(folder.path() / "b.yaml", "extends: c.yaml\n");
  const std::string missing = message_of([&] { load_recipe(folder.path() / "a.yaml"); });
  EXPECT_NE(missing.find("b.yaml:1: extends \"c.yaml\": there is no file"), std::string::npos) << missing;
  EXPECT_NE(message_of([&] { load_recipe(folder.path() / "none.yaml"); }).find("none.yaml"), std::string::npos);
}

TEST(Recipe, APresetGivenBySetWinsOverTheFile) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "r.yaml";
  write_file(path,
             "model: {width: 192, layers: 5, heads: 3, ff_width: 500, context: 64, dropout: 0.1}\n"
             "tokenizer: {vocab_size: 4096}\n");
  Recipe recipe = load_recipe(path, {"model.preset=palm-125m"});
  EXPECT_EQ(recipe.model.width, 768);
  EXPECT_EQ(recipe.model.layers, 12);
  EXPECT_EQ(recipe.model.heads, 12);
  EXPECT_EQ(recipe.model.ff_width, 3072);
  EXPECT_EQ(recipe.model.context, 256);
  EXPECT_EQ(recipe.model.dropout, 0.1);
  EXPECT_EQ(recipe.tokenizer.vocab_size, 32000);

  for (const auto& sets : {std::vector<std::string>{"model.preset=palm-125m", "model.layers=2"},
                           std::vector<std::string>{"model.layers=2", "model.preset=palm-125m"},
                           std::vector<std::string>{"model={preset: palm-125m, layers: 2}"}}) {
    recipe = load_recipe(path, sets);
    EXPECT_EQ(recipe.model.layers, 2);
    EXPECT_EQ(recipe.model.width, 768);
  }
  write_file(path, "model: {preset: palm-125m, layers: 5}\n");
  EXPECT_EQ(load_recipe(path, {"seed=1"}).model.layers, 5);
}

TEST(Recipe, SetLaysOverTheFile) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "r.yaml";
  write_file(path, "model: {preset: palm-tiny}\ndata: {sources: [{path: a}, {path: b}]}\n");
  const Recipe recipe =
      load_recipe(path, {"train.steps=5", "data.sources.1.path=c=d", "samples.queries=[\"x, y\", z]",
                         "model.preset=palm-25m", "name=two words", "samples.prefix=", "data.prompts=@a: [b"});
  EXPECT_EQ(recipe.train.steps, 5);
  EXPECT_EQ(recipe.data.sources[0].path, "a");
  EXPECT_EQ(recipe.data.sources[1].path, "c=d");
  EXPECT_EQ(recipe.samples.queries, (std::vector<std::string>{"x, y", "z"}));
  EXPECT_EQ(recipe.model.width, 384);
  EXPECT_EQ(recipe.name, "two words");
  EXPECT_EQ(recipe.data.prompts, "@a: [b");

  const auto message = [&](const std::string& set) { return message_of([&] { load_recipe(path, {set}); }); };
  EXPECT_EQ(message("optimizer.lr_rate=1"),
            "--set optimizer.lr_rate=1: unknown key \"lr_rate\" in optimizer; did you mean \"learning_rate\"?");
  EXPECT_EQ(message("train.steps=x"),
            "--set train.steps=x: train.steps must be an integer >= 1 and <= 1000000000000, got \"x\"");
  EXPECT_EQ(message("train.steps"), "--set train.steps: expected KEY=VALUE");
  EXPECT_EQ(message("=3"), "--set =3: expected KEY=VALUE");
  EXPECT_EQ(message("a..b=3"), "--set a..b=3: an empty name in the key");
  EXPECT_EQ(message("data.sources.2.path=c"),
            "--set data.sources.2.path=c: \"2\" is no item of data.sources, a list of 2");
  EXPECT_EQ(message("seed.x=3"), "--set seed.x=3: seed must be an integer >= 0, got a map");
  EXPECT_EQ(message("stages.base.train.steps=5"),
            "--set stages.base.train.steps=5: " + path.string() + " has no stages");
  EXPECT_TRUE(message("samples.queries=[a").starts_with("--set samples.queries=[a:")) << message("samples.queries=[a");
}

TEST(Recipe, TheDumpReadsBack) {
  Recipe recipe =
      parse_recipe("model: {preset: palm-125m, dropout: 0.1}\noptimizer: {eps: 1.0000000000000002e-8}", "r.yaml");
  recipe.samples.queries = {"null", "",     "~",       "- a",   "a: b", "#x", "\"quoted\" \\ \n line",
                            "1.5",  "true", "héllo ✨", " pad ", "*a",   "&a", "!t",
                            "-",    "--",   "---",     "...",   "%x",   "@x", "`x",
                            "{a",   "[b",   "a #b",    "$x/y"};
  recipe.data.sources = {{"a b.jsonl", 0.1}, {"c.jsonl", 3}};
  const std::string dump = dump_recipe(recipe);
  const Recipe again = parse_recipe(dump, "other.yaml");
  EXPECT_EQ(dump_recipe(again), dump);
  EXPECT_EQ(again.samples.queries, recipe.samples.queries);
  EXPECT_EQ(again.optimizer.eps, 1.0000000000000002e-8);
  EXPECT_EQ(again.data.sources[0].weight, 0.1);
  EXPECT_EQ(again.model.width, 768);
}

TEST(Recipe, TheHashSeesEveryKeyButNameAndOutput) {
  const Recipe recipe = parse_recipe("", "r.yaml");
  Recipe other = recipe;
  other.name += "b";
  other.output += "elsewhere";
  EXPECT_EQ(recipe_hash(other), recipe_hash(recipe));
  other.optimizer.adafactor.eps2 = 0.5;
  EXPECT_NE(recipe_hash(other), recipe_hash(recipe));
}

TEST(Recipe, TheDocumentationIsARecipe) {
  const std::string text = document_recipe();
  EXPECT_NE(text.find("  learning_rate: 0.001"), std::string::npos) << text;
  EXPECT_NE(text.find("# number >= 0 and <= 100: at its peak"), std::string::npos) << text;
  EXPECT_NE(text.find("#  - path: "), std::string::npos) << text;
  const Recipe read = parse_recipe(text, "r.yaml"), standard = parse_recipe("", "r.yaml");
  EXPECT_EQ(recipe_hash(read), recipe_hash(standard));
}

TEST(Recipe, PrefixDropoutRate) {
  PrefixConfig config;
  EXPECT_EQ(prefix_dropout_rate(config, 0.3), 0);
  config.mode = PrefixPolicy::none;
  EXPECT_EQ(prefix_dropout_rate(config, 0.3), 1);
  config.mode = PrefixPolicy::dropout;
  for (const RateShape shape : {RateShape::linear, RateShape::cosine, RateShape::quadratic}) {
    config.shape = shape;
    EXPECT_DOUBLE_EQ(prefix_dropout_rate(config, 0), 0.4);
    EXPECT_DOUBLE_EQ(prefix_dropout_rate(config, 1), 1);
    EXPECT_DOUBLE_EQ(prefix_dropout_rate(config, 2), 1);
  }
  config.shape = RateShape::linear;
  EXPECT_DOUBLE_EQ(prefix_dropout_rate(config, 0.5), 0.7);
  config.shape = RateShape::quadratic;
  EXPECT_DOUBLE_EQ(prefix_dropout_rate(config, 0.5), 0.55);
}

}  // namespace
}  // namespace unfurl::tests
