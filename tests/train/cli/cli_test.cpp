#include "train/cli/cli.h"

#include <gtest/gtest.h>

#include "core/files.h"
#include "tests/support/temporary_folder.h"
#include "train/corpus/pair.h"
#include "train/recipe/recipe.h"

namespace unfurl::tests {
namespace {

struct Outcome {
  int code;
  std::string out, error;
};

Outcome run(const std::vector<std::string>& arguments) {
  std::vector<const char*> argv = {"unfurl"};
  for (const std::string& argument : arguments) argv.push_back(argument.c_str());
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  Outcome outcome{.code = train::run_cli(static_cast<int>(argv.size()), argv.data()), .out = {}, .error = {}};
  outcome.out = testing::internal::GetCapturedStdout();
  outcome.error = testing::internal::GetCapturedStderr();
  return outcome;
}

/// A user's mistake: exit code 2, nothing on standard output, one line that holds `what`.
void expect_mistake(const std::vector<std::string>& arguments, const std::string& what) {
  const Outcome outcome = run(arguments);
  EXPECT_EQ(outcome.code, 2);
  EXPECT_EQ(outcome.out, "");
  EXPECT_TRUE(outcome.error.starts_with("error: ")) << outcome.error;
  EXPECT_EQ(outcome.error.find('\n'), outcome.error.size() - 1) << outcome.error;
  EXPECT_NE(outcome.error.find(what), std::string::npos) << outcome.error;
}

TEST(Cli, HelpIsThereForEveryCommandWithExamples) {
  const Outcome all = run({"--help"});
  EXPECT_EQ(all.code, 0);
  EXPECT_EQ(all.error, "");
  EXPECT_NE(all.out.find("corpus"), std::string::npos);
  const std::vector<std::vector<std::string>> commands = {
      {"corpus", "synth"}, {"corpus", "pairs"}, {"tokenizer", "train"}};
  for (std::vector<std::string> command : commands) {
    command.push_back("--help");
    const Outcome one = run(command);
    EXPECT_EQ(one.code, 0);
    EXPECT_NE(one.out.find("Examples:\n  unfurl " + command[0]), std::string::npos) << one.out;
    EXPECT_NE(one.out.find("--seed"), std::string::npos) << one.out;
  }
  EXPECT_EQ(run({"corpus", "--help"}).code, 0);
  for (const char* command : {"plan", "train", "run", "expand", "eval", "inspect"}) {
    const Outcome one = run({command, "--help"});
    EXPECT_EQ(one.code, 0);
    EXPECT_NE(one.out.find(std::string("Examples:\n  unfurl ") + command), std::string::npos) << one.out;
  }
  EXPECT_NE(run({"eval", "--help"}).out.find("without_type"), std::string::npos);
}

TEST(Cli, RecipesAreDumpedAndExplained) {
  const TemporaryFolder folder;
  const std::string recipe = (folder / "r.yaml").string();
  write_file(recipe, "model: {preset: palm-tiny}\n");
  const Outcome dump = run({"train", "--set", "train.steps=5", recipe, "--dump", "--set", "samples.queries=[a, b]"});
  EXPECT_EQ(dump.code, 0) << dump.error;
  const train::Recipe read = train::parse_recipe(dump.out, "r.yaml");
  EXPECT_EQ(read.train.steps, 5);
  EXPECT_EQ(read.samples.queries, (std::vector<std::string>{"a", "b"}));
  const Outcome help = run({"train", "--help-recipe"});
  EXPECT_EQ(help.code, 0);
  EXPECT_NE(help.out.find("learning_rate: 0.001"), std::string::npos);
  expect_mistake({"train"}, "a recipe is missing; try `unfurl train --help`");
  expect_mistake({"train", recipe, "--set", "train.stps=5"},
                 "--set train.stps=5: unknown key \"stps\" in train; did you mean");
  expect_mistake({"train", (folder / "none.yaml").string()}, "none.yaml");
  expect_mistake({"run", recipe}, "lists no stages");
}

TEST(Cli, ExpandsOptionsAreChecked) {
  const std::string run_folder = "no-such-run";
  expect_mistake({"expand", run_folder, "a fox", "-n", "0"}, "must be from 1 to 256, got \"0\"");
  expect_mistake({"expand", run_folder, "a fox", "-n", "many"}, "must be from 1 to 256, got \"many\"");
  expect_mistake({"expand", run_folder, "a fox", "--temperature", "-1"}, "must be from 0 to 100");
  expect_mistake({"expand", run_folder, "a fox", "--keep", "fre"}, "did you mean \"free\"?");
  expect_mistake({"expand", run_folder, "a fox", "--file", "x"}, "query excludes --file");
  expect_mistake({"expand", run_folder, ""}, "the query is empty");
  expect_mistake({"expand", run_folder, "a", "fox"}, "\"fox\" is one argument too many");
  expect_mistake({"expand", run_folder, "train"}, run_folder);
  const Outcome same = run({"expand", run_folder, "[a, {b|c}]", "--no-expand"});
  EXPECT_EQ(same.code, 0) << same.error;
  EXPECT_EQ(same.out, "[a, {b|c}]\n");
}

TEST(Cli, Version) {
  const Outcome outcome = run({"--version"});
  EXPECT_EQ(outcome.code, 0);
  EXPECT_TRUE(outcome.out.starts_with("unfurl 0.")) << outcome.out;
}

TEST(Cli, MistakesAreOneLine) {
  expect_mistake({}, "unfurl: a command is missing: one of corpus, ");
  expect_mistake({"corpus"}, "unfurl corpus: a command is missing: one of ");
  expect_mistake({"tokeniser"}, "unfurl: unknown command \"tokeniser\"; did you mean \"tokenizer\"?");
  expect_mistake({"corpus", "piars"}, "unfurl corpus: unknown command \"piars\"; did you mean \"pairs\"?");
  expect_mistake({"zzzzzzzz"}, "unfurl: unknown command \"zzzzzzzz\"; try `unfurl --help`");
  expect_mistake({""}, "unknown command \"\"");
  expect_mistake({"--verbose"}, "unfurl: unknown option --verbose; ");
  expect_mistake({"tokenizer", "train", "a.txt", "--out", "b", "--vocab-sise=3"},
                 "unfurl tokenizer train: unknown option --vocab-sise; did you mean \"--vocab-size\"?");
  expect_mistake({"tokenizer", "train", "a.txt"}, "unfurl tokenizer train: --out is required; try `unfurl tokenizer");
  expect_mistake({"tokenizer", "train", "a.txt", "--out"}, "unfurl tokenizer train: --out");
  expect_mistake({"tokenizer", "train", "a.txt", "--out", "b", "--vocab-size", "12"},
                 "must be from 300 to 1048576, got \"12\"");
  expect_mistake({"tokenizer", "train", "a.txt", "--out", "b", "--vocab-size", "1e3"}, "--vocab-size");
  expect_mistake({"tokenizer", "train", "a.txt", "--out", "b", "--vocab-size", "nan"},
                 "must be from 300 to 1048576, got \"nan\"");
  expect_mistake({"tokenizer", "train", "a.txt", "--out", "b", "--type", "bp"},
                 "must be one of bpe, unigram, got \"bp\"; did you mean \"bpe\"?");
  expect_mistake({"tokenizer", "train", "a.txt", "--out", "b", "--threads", "0"}, "must be from 1 to 1024, got \"0\"");
  expect_mistake({"tokenizer", "train", "a.txt", "--out", "b", "--threads", "1.5"}, "--threads");
  expect_mistake({"corpus", "pairs", "--prompts", "x", "--out", "y", "z"},
                 "unfurl corpus pairs: \"z\" is one argument too many");
  expect_mistake({"corpus", "pairs", "--prompts", "x", "--out", "y", "--seed", "-1"}, "--seed");
}

TEST(Cli, AllSeedsAreOfOneRange) {
  const std::string most = "9223372036854775807", more = "9223372036854775808";
  const TemporaryFolder folder;
  const std::string out = (folder / "t").string();
  const std::vector<std::vector<std::string>> commands = {{"corpus", "synth", "--out", out},
                                                          {"corpus", "pairs", "--prompts", "none", "--out", out},
                                                          {"tokenizer", "train", "none", "--out", out},
                                                          {"expand", "none", "a fox"}};
  for (std::vector<std::string> command : commands) {
    command.insert(command.end(), {"--seed", ""});
    for (const std::string& bad : {more, std::string("18446744073709551616"), std::string("-1"), std::string("1.5"),
                                   std::string("1e3"), std::string("x")}) {
      command.back() = bad;
      expect_mistake(command, "--seed: must be a whole number from 0 to " + most + ", got \"" + bad + "\"");
    }
  }
  EXPECT_EQ(run({"corpus", "synth", "--pairs", "5", "--seed", most, "--out", out}).code, 0);
  const Outcome json = run({"expand", "none", "a fox", "--no-expand", "--json", "--seed", most});
  EXPECT_NE(json.out.find("\"seed\":" + most), std::string::npos) << json.out;
}

TEST(Cli, AFullDiskBelowStandardOutputIsAFailure) {
  if (!std::filesystem::exists("/dev/full")) GTEST_SKIP() << "there is no /dev/full";
  // In a process of its own: the failure stays with the stream.
  const auto version_to_full_disk = [] {
    if (std::freopen("/dev/full", "w", stdout) == nullptr) std::exit(99);
    const char* argv[] = {"unfurl", "--version"};
    std::exit(train::run_cli(2, argv));
  };
  EXPECT_EXIT(version_to_full_disk(), testing::ExitedWithCode(1), "error: cannot write all of the output");
}

TEST(Cli, MissingAndBadFilesAreMistakes) {
  const TemporaryFolder folder;
  const std::string out = (folder / "t.model").string();
  expect_mistake({"tokenizer", "train", (folder / "none.txt").string(), "--out", out}, "none.txt");
  write_file(folder / "empty.txt", "");
  expect_mistake({"tokenizer", "train", (folder / "empty.txt").string(), "--out", out}, "");
  write_file(folder / "latin.txt", "caf\xe9\n");
  expect_mistake({"tokenizer", "train", (folder / "latin.txt").string(), "--out", out}, "");
  EXPECT_FALSE(std::filesystem::exists(out));
}

TEST(Cli, AnUnwritableFolderIsAFailure) {
  const TemporaryFolder folder;
  write_file(folder / "file", "");
  write_file(folder / "lines.txt", "a fox\n");
  const Outcome outcome = run({"tokenizer", "train", (folder / "lines.txt").string(), "--vocab-size", "300", "--out",
                               (folder / "file/t.model").string()});
  EXPECT_EQ(outcome.code, 1);
  EXPECT_TRUE(outcome.error.starts_with("error: ")) << outcome.error;
  EXPECT_NE(outcome.error.find((folder / "file").string()), std::string::npos) << outcome.error;
}

TEST(Cli, TrainsATokenizerOnPairsAndLines) {
  const TemporaryFolder folder;
  std::string pairs, lines;
  for (int i = 0; i < 50; ++i) {
    const std::string words = "fox" + std::to_string(i % 7) + " in the snow";
    pairs += "{\"query\": \"" + words + "\", \"prompt\": \"" + words + ", oil painting, soft light\"}\n";
    lines += "a castle by the sea, watercolour\r\n\n";
  }
  write_file(folder / "pairs.jsonl", pairs);
  write_file(folder / "lines.txt", lines);
  const std::string model = (folder / "new/t.model").string();
  const Outcome outcome = run({"tokenizer", "train", (folder / "pairs.jsonl").string(), (folder / "lines.txt").string(),
                               "--out", model, "--vocab-size", "320", "--type", "bpe"});
  ASSERT_EQ(outcome.code, 0) << outcome.error;
  EXPECT_TRUE(outcome.out.starts_with(model + ": 320 pieces from 150 texts; a piece is ")) << outcome.out;

  // What it made reads pairs.
  write_file(folder / "two.jsonl",
             "{\"query\": \"fox1\", \"prompt\": \"fox1 in the snow\"}\n"
             "{\"query\": \"fox2\", \"prompt\": \"fox2 in the snow\", \"prefix\": \"FLV\", \"type\": \"short\"}\n");
  const auto show = [&](std::vector<std::string> more) {
    more.insert(more.begin(), {"corpus", "show", (folder / "two.jsonl").string(), "--tokenizer", model});
    return more;
  };
  const Outcome shown = run(show({"--first", "1"}));
  ASSERT_EQ(shown.code, 0) << shown.error;
  EXPECT_TRUE(shown.out.starts_with("pair 1\n  query    fox2\n  prompt   fox2 in the snow\n  prefix   FLV\n"))
      << shown.out;
  EXPECT_NE(shown.out.find("both ways  no    <FLV>\n"), std::string::npos) << shown.out;
  EXPECT_NE(shown.out.find("both ways  no    <sep>\n"), std::string::npos) << shown.out;
  EXPECT_NE(shown.out.find("back       yes   <eos>\n"), std::string::npos) << shown.out;
  EXPECT_EQ(shown.out.find("cut to fit"), std::string::npos) << shown.out;
  const Outcome cut = run(show({"-n", "1", "--context", "6"}));
  EXPECT_NE(cut.out.find("cut to fit the context"), std::string::npos) << cut.out;
  expect_mistake(show({"--first", "2"}), "two.jsonl: there is no pair 2: the file has 2");
  expect_mistake(show({"-n", "0"}), "must be 1 or more, got \"0\"");
  expect_mistake({"corpus", "show", (folder / "none.jsonl").string(), "--tokenizer", model}, "none.jsonl");
}

TEST(Cli, OptionsReachTheCorpusCommands) {
  const TemporaryFolder folder;
  const Outcome synth = run({"corpus", "synth", "--pairs", "60", "--seed", "3", "--copy-share", "0", "--heldout-pairs",
                             "5", "--out", (folder / "synth").string()});
  ASSERT_EQ(synth.code, 0) << synth.error;
  EXPECT_EQ(train::read_pairs(folder / "synth/pairs.jsonl").size(), 60u);
  EXPECT_EQ(train::read_pairs(folder / "synth/heldout.jsonl").size(), 5u);

  write_file(folder / "prompts.txt", "a red fox in the snow, oil painting, 8 k\n");
  const Outcome pairs = run({"corpus", "pairs", "--prompts", (folder / "prompts.txt").string(), "--out",
                             (folder / "pairs.jsonl").string(), "--normalize", "--copy-share", "0"});
  ASSERT_EQ(pairs.code, 0) << pairs.error;
  const auto made = train::read_pairs(folder / "pairs.jsonl");
  ASSERT_FALSE(made.empty());
  EXPECT_NE(made[0].prompt.find("8k"), std::string::npos) << made[0].prompt;
}

}  // namespace
}  // namespace unfurl::tests
