#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <map>
#include <set>

#include "core/error.h"
#include "core/files.h"
#include "tests/support/temporary_folder.h"
#include "train/corpus/commands.h"
#include "train/corpus/copy_pairs.h"
#include "train/corpus/pair.h"
#include "train/corpus/segments.h"
#include "train/corpus/text.h"

namespace unfurl::tests {
namespace {

using namespace unfurl::train;

struct Outcome {
  std::vector<Pair> pairs;
  std::string summary, bytes;
};

Outcome run(const TemporaryFolder& folder, const std::string& prompts, PairsOptions options = {}) {
  write_file(folder / "prompts.txt", prompts);
  options.prompts = folder / "prompts.txt";
  options.out = folder / "pairs.jsonl";
  testing::internal::CaptureStdout();
  try {
    run_corpus_pairs(options);
  } catch (...) {
    testing::internal::GetCapturedStdout();
    throw;
  }
  Outcome made{read_pairs(options.out), testing::internal::GetCapturedStdout(), read_file(options.out)};
  return made;
}

const std::string kPrompts =
    "photo of a red fox in a deep forest, moody, soft light, sharp focus, 8 k, film grain, by an unknown hand\n"
    "an old tower, ravens on the roof, moody, sci - fi, sharp focus\n"
    "a tower, moody, sharp focus\n"
    "a sleeping giant in a valley\n"
    "tower\n";

std::map<std::string, Pair> by_type(const std::vector<Pair>& pairs, std::string_view prompt_start) {
  std::map<std::string, Pair> found;
  for (const Pair& pair : pairs) {
    if (pair.type != "copy" && pair.prompt.starts_with(prompt_start)) found[pair.type] = pair;
  }
  return found;
}

TEST(CorpusPairs, MakesQueriesOfAllLengths) {
  const TemporaryFolder folder;
  const Outcome made = run(folder, kPrompts, {.normalize = true, .copy_share = 0, .variants = 16});
  auto fox = by_type(made.pairs, "photo of a red fox");
  EXPECT_EQ(fox["concrete"].query, "photo of a red fox in a deep forest");
  EXPECT_EQ(fox["short"].query, "red fox");
  EXPECT_EQ(fox["short"].prefix, "DTL");
  EXPECT_EQ(fox["grounded"].query, "fox in a deep forest");
  EXPECT_EQ(fox["grounded"].prefix, "GRD");
  EXPECT_EQ(fox["abstract"].query, "fox");
  EXPECT_EQ(fox["abstract"].prefix, "ABST");
  EXPECT_EQ(fox["specificity"].prefix, "SPCT");
  EXPECT_TRUE(fox["title"].query == "The Red Fox" || fox["title"].query == "Red Fox") << fox["title"].query;
  EXPECT_EQ(fox["medium"].query.find("photo of a red fox in a deep forest, moody"), 0u);
  EXPECT_EQ(fox["long"].query, "photo of a red fox in a deep forest, moody, soft light, sharp focus");
  EXPECT_NE(fox["long"].prompt.find(", 8k,"), std::string::npos) << "normalised";
  EXPECT_EQ(fox["long"].flavors.size(), 6u);
  std::set<std::string> ids;
  for (const auto& [type, pair] : fox) ids.insert(pair.id);
  EXPECT_EQ(ids.size(), 1u) << "pairs of one prompt stay together";
  EXPECT_EQ(by_type(made.pairs, "a sleeping giant")["short"].query, "sleeping giant");
  for (const Pair& pair : made.pairs) EXPECT_NE(pair.query, pair.prompt);
}

TEST(CorpusPairs, PrefixFlvMeansThatOnlyFlavorsFollow) {
  const TemporaryFolder folder;
  const std::string text = kPrompts + "a cat, moody, a wooden boat, sharp focus\na dog, moody\nowl, moody\n";
  const Outcome made = run(folder, text, {.copy_share = 0, .variants = 16});
  EXPECT_EQ(by_type(made.pairs, "a cat")["concrete"].prefix, "") << "a wooden boat is no flavor";
  EXPECT_EQ(by_type(made.pairs, "a dog")["concrete"].prefix, "FLV");
}

TEST(CorpusPairs, AddsTheShareOfCopies) {
  const TemporaryFolder folder;
  std::string text;
  for (int i = 0; i < 200; ++i)
    text += "a stone tower number w" + std::to_string(i) + " by the sea, moody, sharp focus, 8k\n";
  const Outcome made = run(folder, text, {.copy_share = 0.4});
  std::size_t copies = 0, kept_caps = 0;
  std::map<std::string, std::set<std::string>> types_of_id;
  for (const Pair& pair : made.pairs) {
    types_of_id[pair.id].insert(pair.type);
    if (pair.type != "copy") continue;
    ++copies;
    EXPECT_EQ(pair.prompt, pair.query + ", moody, sharp focus, 8k");
    EXPECT_EQ(pair.query.find(','), std::string::npos);
    EXPECT_EQ(pair.prefix, "FLV");
    EXPECT_FALSE(pair.query.empty());
    kept_caps += lower(pair.query) != pair.query;
  }
  EXPECT_NEAR(static_cast<double>(copies) / static_cast<double>(made.pairs.size()), 0.4, 0.01);
  EXPECT_GT(kept_caps, copies / 20);
  for (const auto& [id, types] : types_of_id) EXPECT_TRUE(types.contains("concrete")) << "a copy has its source's id";
}

TEST(CorpusPairs, IsDeterministic) {
  const TemporaryFolder folder;
  const std::string one = run(folder, kPrompts, {.seed = 3}).bytes, again = run(folder, kPrompts, {.seed = 3}).bytes;
  EXPECT_EQ(one, again);
  EXPECT_NE(one, run(folder, kPrompts, {.seed = 4}).bytes);
}

TEST(CorpusPairs, CountsWhatItDrops) {
  const TemporaryFolder folder;
  const std::string text =
      "a red fox, moody, 8k\n\nA Red Fox, moody, 8k\r\nbad \xff byte\nbell \x07\ntower\nowl at night\n";
  testing::internal::CaptureStderr();
  const Outcome made = run(folder, text, {.bad_line_share = 0.5});
  const std::string warnings = testing::internal::GetCapturedStderr();
  EXPECT_NE(made.summary.find("lines     7: 1 empty, 2 bad, 1 repeated"), std::string::npos) << made.summary;
  EXPECT_NE(made.summary.find("2 queries that are the whole prompt"), std::string::npos) << made.summary;
  const std::string path = (folder / "prompts.txt").string();
  for (const char* part :
       {":4: invalid UTF-8\n", ":5: a control character\n", ": 2 of 7 lines are not prompts and were left out\n"}) {
    EXPECT_NE(warnings.find(path + part), std::string::npos) << warnings;
  }
}

TEST(CorpusPairs, EndsWhereTooManyLinesAreBad) {
  const TemporaryFolder folder;
  const auto mistake = [&](const std::string& text, const PairsOptions& options = {}) -> std::string {
    try {
      run(folder, text, options);
    } catch (const UserError& error) {
      return error.what();
    }
    return "";
  };
  const std::string path = (folder / "prompts.txt").string();
  EXPECT_EQ(mistake("a red fox, moody\nbad \xff byte\n"),
            path + ": 1 of 2 lines is not a prompt, more than the 1 % allowed: " + path + ":2: invalid UTF-8");
  std::string binary;
  for (int i = 0; i < 4000; ++i) binary += static_cast<char>(i * 37 + i / 256);
  EXPECT_TRUE(mistake(binary).starts_with(path + ": ")) << mistake(binary);
  EXPECT_FALSE(std::filesystem::exists(folder / "pairs.jsonl"));
  std::string many;
  for (int i = 0; i < 99; ++i) many += "a red fox number " + std::to_string(i) + ", moody\n";
  testing::internal::CaptureStderr();
  EXPECT_EQ(mistake(many + "bell \x07\n"), "") << "the share itself is allowed";
  EXPECT_NE(testing::internal::GetCapturedStderr().find("1 of 100 lines is not a prompt and was left out"),
            std::string::npos);
  EXPECT_NE(mistake(many + "bell \x07\n", {.bad_line_share = 0}), "");
}

TEST(CorpusPairs, RefusesBadInput) {
  const TemporaryFolder folder;
  EXPECT_THROW(run(folder, ""), UserError);
  EXPECT_THROW(run(folder, "\n \n"), UserError);
  EXPECT_THROW(run(folder, kPrompts, {.copy_share = 1}), UserError);
  EXPECT_THROW(run(folder, kPrompts, {.copy_share = std::nan("")}), UserError);
  EXPECT_THROW(run(folder, kPrompts, {.variants = 0}), UserError);
  EXPECT_THROW(run(folder, kPrompts, {.bad_line_share = 2}), UserError);
  EXPECT_FALSE(std::filesystem::exists(folder / "pairs.jsonl")) << "nothing half-written";
  EXPECT_FALSE(std::filesystem::exists(folder / "pairs.jsonl.tmp"));
  write_file(folder / "list.txt", kPrompts);
  EXPECT_THROW(run_corpus_pairs({.prompts = folder / "list.txt", .out = folder / "list.txt" / "x.jsonl"}), Error);
  EXPECT_THROW(run_corpus_pairs({.prompts = folder / "list.txt", .out = folder / "list.txt"}), UserError);
  EXPECT_EQ(read_file(folder / "list.txt"), kPrompts);
  run_corpus_pairs({.prompts = folder / "list.txt", .out = folder / "new" / "x.jsonl"});
  EXPECT_TRUE(std::filesystem::exists(folder / "new" / "x.jsonl"));
  EXPECT_THROW(run_corpus_pairs({.prompts = folder / "none.txt", .out = folder / "x.jsonl"}), UserError);
}

TEST(CorpusPairs, ReadsRealPrompts) {
  const char* data = std::getenv("UNFURL_TEST_DATA");
  if (data == nullptr) GTEST_SKIP() << "UNFURL_TEST_DATA is not set";
  const TemporaryFolder folder;
  const std::string text = read_file(std::filesystem::path(data) / "prompts" / "diffusiondb.txt");
  const Outcome made = run(folder, text, {.normalize = true});
  std::map<std::string, double> share;
  std::set<std::string> sources;
  for (const Pair& pair : made.pairs) {
    share[pair.type] += 1.0 / static_cast<double>(made.pairs.size());
    sources.insert(pair.prompt);
    EXPECT_EQ(pair.prompt.find("sci - fi"), std::string::npos) << pair.prompt;
    EXPECT_EQ(pair.prompt.find(" 8 k"), std::string::npos) << pair.prompt;
  }
  EXPECT_NEAR(share["copy"], 0.4, 0.001);
  EXPECT_GT(share["concrete"], 0.08);
  EXPECT_GT(share["short"], 0.08);
  EXPECT_GT(share["abstract"], 0.05);
  EXPECT_GT(made.pairs.size(), 40000u);
}

}  // namespace
}  // namespace unfurl::tests
