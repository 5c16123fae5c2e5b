#include <gtest/gtest.h>

#include <map>

#include "core/files.h"
#include "tests/support/expect_error.h"
#include "tests/support/temporary_folder.h"
#include "train/corpus/commands.h"
#include "train/corpus/contrast_pairs.h"
#include "train/corpus/prefix_rules.h"

namespace unfurl::tests {
namespace {

using namespace unfurl::train;

/// Prompts that make "oil painting" and "soft light" flavors.
PromptStatistics some_statistics() {
  PromptStatistics statistics;
  for (const char* thing : {"a castle", "a fox", "a ship", "a tree"}) {
    statistics.add(std::string(thing) + ", oil painting, soft light");
  }
  return statistics;
}

Pair pair_of(const char* query, const char* prompt, const char* type, const char* prefix = "") {
  return {.query = query,
          .prompt = prompt,
          .prefix = prefix,
          .id = "",
          .type = type,
          .content = {},
          .flavors = {},
          .source = {}};
}

TEST(PrefixRules, ByTypeByContentAndByScore) {
  const PromptStatistics statistics = some_statistics();
  const auto label = [&](const Pair& pair, std::optional<double> score = {}, std::optional<double> threshold = {}) {
    return prefix_by_rules(pair, statistics, score, threshold);
  };
  EXPECT_EQ(label(pair_of("undying love", "two swans on a lake, oil painting", "abstract")), "ABST");
  EXPECT_EQ(label(pair_of("rome 1920", "a street in rome in 1920, oil painting", "grounded")), "GRD");
  EXPECT_EQ(label(pair_of("an animal", "a fox, oil painting", "specificity")), "SPCT");
  EXPECT_EQ(label(pair_of("a fox", "a red fox in the snow, oil painting", "short")), "DTL");
  EXPECT_EQ(label(pair_of("a fox", "a red fox in the snow, oil painting", "")), "DTL");
  EXPECT_EQ(label(pair_of("a red fox in the snow", "a red fox in the snow, oil painting, soft light", "concrete")),
            "FLV");
  EXPECT_EQ(label(pair_of("Fox, red, snow", "a red fox in the snow, oil painting", "medium")), "FLV");
  // Behind the content is more than flavors.
  EXPECT_EQ(label(pair_of("a red fox", "a red fox, oil painting, hunting a rabbit at night", "concrete")), "DTL");
  // It adds nothing.
  EXPECT_EQ(label(pair_of("a fox, oil painting", "a fox, oil painting", "concrete")), "");
  EXPECT_EQ(label(pair_of("xyzzy foo", "xyzzy foo, oil painting", "copy")), "");
  // What the pair says of itself comes first.
  Pair told = pair_of("a fox", "a fox, wearing a hat, oil painting", "concrete");
  told.content = {"fox", "wearing", "hat"};
  told.flavors = {"oil painting"};
  EXPECT_EQ(label(told), "DTL");
  told.query = "a fox wearing a hat";
  EXPECT_EQ(label(told), "FLV");
  // Synthetic pairs know what they are; scores go before all else.
  EXPECT_EQ(label(pair_of("a fox", "a fox, oil painting", "abstract", "RFT"), 9, 1), "RFT");
  EXPECT_EQ(label(pair_of("a fox", "a fox, oil painting", "short", "MSTP")), "MSTP");
  EXPECT_EQ(label(pair_of("undying love", "two swans, oil painting", "abstract", "DTL"), 6, 6), "HAST");
  EXPECT_EQ(label(pair_of("undying love", "two swans, oil painting", "abstract"), 5.9, 6), "ABST");
  EXPECT_EQ(label(pair_of("undying love", "two swans, oil painting", "abstract"), {}, 6), "ABST");
}

class AssignPrefixes : public testing::Test {
 protected:
  AssignPrefixes() {
    std::string lines;
    for (int i = 0; i < 40; ++i) {
      lines += "{\"query\": \"a fox " + std::to_string(i) + "\", \"prompt\": \"a fox " + std::to_string(i) +
               ", wearing a hat\", \"type\": \"short\", \"mine\": [1, 2], \"aesthetic\": " + std::to_string(i) +
               ".5}\n";
    }
    lines += "{\"query\": \"x\", \"prompt\": \"x, y\", \"type\": \"copy\", \"prefix\": \"DTL\"}\n";
    write_file(folder_ / "in.jsonl", lines);
    options_.pairs = folder_ / "in.jsonl";
    options_.out = folder_ / "out/labelled.jsonl";
  }
  std::string run() {
    testing::internal::CaptureStdout();
    try {
      run_corpus_assign_prefixes(options_);
    } catch (...) {
      testing::internal::GetCapturedStdout();
      throw;
    }
    return testing::internal::GetCapturedStdout();
  }
  std::map<std::string, int> labels() const {
    std::map<std::string, int> out;
    for (const Pair& pair : read_pairs(options_.out)) ++out[pair.prefix];
    return out;
  }
  TemporaryFolder folder_;
  AssignPrefixesOptions options_;
};

TEST_F(AssignPrefixes, KeepsAllElseOfALine) {
  const std::string said = run();
  EXPECT_EQ(labels(), (std::map<std::string, int>{{"", 1}, {"DTL", 40}}));
  EXPECT_NE(said.find("41 pairs with 41 other labels than before"), std::string::npos) << said;
  EXPECT_NE(said.find("none         1 ( 2.4 %)  copy 1"), std::string::npos) << said;
  EXPECT_NE(read_file(options_.out).find("\"mine\":[1,2]"), std::string::npos);
}

TEST_F(AssignPrefixes, ContrastPairsOfSimulatedOnesAreSimulated) {
  write_file(options_.pairs,
             "{\"query\": \"a fox, a hat\", \"prompt\": \"a fox, a hat, bokeh\", \"type\": \"concrete\", \"flavors\": "
             "[\"bokeh\"], \"simulated\": true}\n"
             "{\"query\": \"a cat\", \"prompt\": \"a cat, wearing a hat, bokeh\", \"type\": \"short\", \"flavors\": "
             "[\"bokeh\"]}\n");
  options_.contrast = 1;
  run();
  const std::vector<Pair> pairs = read_pairs(options_.out);
  ASSERT_EQ(pairs.size(), 4U);
  for (std::size_t i = 0; i < 4; ++i) EXPECT_EQ(pairs[i].simulated, i < 2) << i;
}

TEST_F(AssignPrefixes, HastByThresholdAndQuantile) {
  options_.score = "aesthetic";
  options_.threshold = 30.5;
  EXPECT_NE(run().find("HAST from aesthetic 30.5 on: 10 of 40 scored pairs, 1 have none"), std::string::npos);
  EXPECT_EQ(labels()["HAST"], 10);
  options_.threshold.reset();
  options_.quantile = 0.9;
  run();
  EXPECT_EQ(labels()["HAST"], 4);
}

TEST(ContrastPair, HasAnotherPrefixAndWhatItAsksFor) {
  const PromptStatistics statistics = some_statistics();
  const auto contrast = [&](const Pair& pair, std::uint64_t item = 0) {
    Draw draw(1, 2, item);
    return contrast_pair(pair, statistics, draw);
  };
  for (const char* prefix : {"DTL", "ABST", "GRD", "SPCT", ""}) {
    const auto made = contrast(pair_of("a fox", "a red fox in the snow, oil painting, soft light", "short", prefix));
    ASSERT_TRUE(made.has_value()) << prefix;
    EXPECT_EQ(made->query, "a fox");
    EXPECT_EQ(made->prompt, "a fox, oil painting, soft light");
    EXPECT_EQ(made->prefix, "FLV");
    EXPECT_TRUE(adds_flavors_alone(*made, statistics));
  }
  // The flavors that a pair names are believed.
  Pair told = pair_of("a fox, at night, in snow", "a fox, at night, in snow, big eyes", "concrete", "FLV");
  told.flavors = {"big eyes"};
  std::map<std::string, int> queries, prefixes;
  for (std::uint64_t item = 0; item < 40; ++item) {
    const auto made = contrast(told, item);
    ASSERT_TRUE(made.has_value());
    EXPECT_EQ(made->prompt, made->prefix == "DTL" ? told.prompt : made->query + ", big eyes");
    EXPECT_EQ(prefix_by_rules(*made, statistics, {}, {}), made->prefix);
    ++queries[made->query];
    ++prefixes[made->prefix];
  }
  EXPECT_EQ(prefixes.size(), 2u) << "DTL and FLV";
  EXPECT_EQ(queries.size(), 2u) << "the first one or two segments";
  EXPECT_TRUE(queries.contains("a fox") && queries.contains("a fox, at night"));
  // Nothing to take away or to add.
  EXPECT_FALSE(contrast(pair_of("a fox", "a fox, oil painting", "concrete", "FLV")));
  EXPECT_FALSE(contrast(pair_of("a fox", "a red fox in the snow", "short", "DTL")));
  for (const char* prefix : {"RFT", "MSTP", "HAST"}) {
    EXPECT_FALSE(contrast(pair_of("a fox", "a red fox, oil painting", "short", prefix)));
  }
  EXPECT_FALSE(contrast(pair_of("xyzzy", "xyzzy, oil painting", "copy")));
}

TEST_F(AssignPrefixes, AddsContrastPairs) {
  std::string lines;
  for (int i = 0; i < 400; ++i) {
    lines += R"({"query": "a fox", "prompt": "a red fox, oil painting", "type": "short", "id": "x",)"
             R"( "flavors": ["oil painting"]})"
             "\n";
  }
  write_file(options_.pairs, lines);
  options_.contrast = 0.25;
  const std::string said = run();
  const int added = labels()["FLV"];
  EXPECT_EQ(labels()["DTL"], 400);
  EXPECT_NEAR(added, 100, 30);  // 3.5 standard deviations
  EXPECT_NE(said.find("added as contrast"), std::string::npos) << said;
  const std::string first = read_file(options_.out);
  run();
  EXPECT_EQ(read_file(options_.out), first);
  options_.seed = 2;
  run();
  EXPECT_NE(read_file(options_.out), first);
  options_.contrast = 1.5;
  EXPECT_NE(error_of([&] { run(); }).find("--contrast must be between 0 and 1, got 1.5"), std::string::npos);
}

TEST_F(AssignPrefixes, BadInput) {
  options_.quantile = 0.5;
  EXPECT_NE(error_of([&] { run(); }).find("no pair has a score: HAST needs scores"), std::string::npos);
  options_.quantile = 1;
  EXPECT_NE(error_of([&] { run(); }).find("--hast-quantile must be above 0 and below 1, got 1"), std::string::npos);
  options_.quantile.reset();
  write_file(options_.pairs, "{\"query\": \"a\"}\n{\"query\": \"a\", \"prompt\": \"a, b\"}\n");
  EXPECT_NE(error_of([&] { run(); }).find("prompt is missing"), std::string::npos);
  EXPECT_FALSE(std::filesystem::exists(options_.out));
  options_.out = options_.pairs;
  EXPECT_FALSE(error_of([&] { run(); }).empty());
}

}  // namespace
}  // namespace unfurl::tests
