#include "train/refine/select.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "core/error.h"
#include "tests/support/expect_error.h"

namespace unfurl::tests {
namespace {

using namespace unfurl::train;
using Kept = std::vector<std::size_t>;

/// Three queries of two types with four prompts each; "hard" ones score lower.
std::vector<Candidate> some() {
  std::vector<Candidate> out;
  for (int i = 0; i < 12; ++i) {
    const int query = i / 4;
    const double score = (query == 2 ? 0.1 : 0.5) + 0.01 * ((i * 7) % 12);
    out.push_back({query == 2 ? "hard" : "easy", "q" + std::to_string(query), score, 1000u + static_cast<unsigned>(i)});
  }
  return out;
}

TEST(Select, QuantileKeepsTheBestOfAll) {
  RefineRecipe config;
  config.keep = 0.25;
  const Selection found = select_pairs(some(), config, 1);
  EXPECT_EQ(found.kept, (Kept{1, 3, 5}));
  ASSERT_EQ(found.groups.size(), 1u);
  EXPECT_EQ(found.groups[0].pairs, 12u);
  EXPECT_EQ(found.groups[0].kept, 3u);
  double least = 1;
  for (const std::size_t i : found.kept) least = std::min(least, some()[i].score);
  EXPECT_EQ(found.groups[0].threshold, least);
  for (std::size_t i = 0; i < 12; ++i) {
    if (!std::set<std::size_t>(found.kept.begin(), found.kept.end()).contains(i)) {
      EXPECT_LE(some()[i].score, least);
    }
  }
}

TEST(Select, QuantileOfEachTypeAndEachQuery) {
  RefineRecipe config;
  config.keep = 0.5;
  config.per = ThresholdScope::type;
  Selection found = select_pairs(some(), config, 1);
  ASSERT_EQ(found.groups.size(), 2u);
  EXPECT_EQ(found.groups[0].name, "easy");
  EXPECT_EQ(found.groups[0].kept, 4u);
  EXPECT_EQ(found.groups[1].kept, 2u);
  EXPECT_GT(found.groups[0].threshold, found.groups[1].threshold);
  config.per = ThresholdScope::query;
  found = select_pairs(some(), config, 1);
  ASSERT_EQ(found.groups.size(), 3u);
  for (const SelectionGroup& group : found.groups) {
    EXPECT_EQ(group.kept, 2u) << group.name;
    EXPECT_FALSE(group.raised);
  }
  for (const double keep : {0.01, 0.12, 0.13, 0.2}) {  // at least one of each
    config.keep = keep;
    found = select_pairs(some(), config, 1);
    EXPECT_EQ(found.kept.size(), 3u);
    for (const SelectionGroup& group : found.groups) EXPECT_EQ(group.raised, keep < 0.125) << keep;
  }
  config.keep = 0.01;
  config.select = SelectBy::all;
  for (const SelectionGroup& group : select_pairs(some(), config, 1).groups) EXPECT_FALSE(group.raised);
}

TEST(Select, TiesGoToTheEarlier) {
  std::vector<Candidate> same(5, Candidate{"t", "q", 0.5, 0});
  RefineRecipe config;
  config.keep = 0.4;
  EXPECT_EQ(select_pairs(same, config, 1).kept, (Kept{0, 1}));
}

TEST(Select, FixedThreshold) {
  RefineRecipe config;
  config.threshold = ThresholdKind::fixed;
  config.at_least = 0.55;
  Selection found = select_pairs(some(), config, 1);
  for (std::size_t i = 0; i < 12; ++i) {
    EXPECT_EQ(std::count(found.kept.begin(), found.kept.end(), i), some()[i].score >= 0.55 ? 1 : 0) << i;
  }
  config.at_least = -1;
  EXPECT_EQ(select_pairs(some(), config, 1).kept.size(), 12u);
  config.at_least = 0.9;
  const std::string message = error_of([&] { select_pairs(some(), config, 1); });
  EXPECT_EQ(message,
            "refine.at_least 0.9 keeps none of 12 pairs: the best scores 0.61; 0.61 keeps that one, 0.52 keeps half of "
            "them");
  config.at_least = 0.61;  // what it says is true
  EXPECT_EQ(select_pairs(some(), config, 1).kept.size(), 1u);
}

TEST(Select, RandomTakesAsManyOfEachGroupAndDependsOnTheSeed) {
  RefineRecipe config;
  config.select = SelectBy::random;
  config.per = ThresholdScope::type;
  EXPECT_FALSE(needs_scores(config));
  std::set<Kept> different;
  std::vector<Candidate> unscored = some();
  for (Candidate& candidate : unscored) candidate.score = std::nan("");  // nobody looks
  for (std::uint64_t seed = 0; seed < 10; ++seed) {
    const Selection found = select_pairs(unscored, config, seed);
    EXPECT_EQ(found.groups[0].kept, 4u);
    EXPECT_EQ(found.groups[1].kept, 2u);
    EXPECT_EQ(found.kept, select_pairs(unscored, config, seed).kept);
    different.insert(found.kept);
  }
  EXPECT_GT(different.size(), 5u);
  config.per = ThresholdScope::all;
  config.threshold = ThresholdKind::fixed;
  config.at_least = 0.55;
  EXPECT_TRUE(needs_scores(config));
  RefineRecipe scored = config;
  scored.select = SelectBy::score;
  EXPECT_EQ(select_pairs(some(), config, 1).kept.size(), select_pairs(some(), scored, 1).kept.size());
  config.select = SelectBy::all;
  EXPECT_EQ(select_pairs(some(), config, 1).kept.size(), 12u);
  EXPECT_FALSE(needs_scores(config));
}

TEST(Select, ScoresMustBeNumbers) {
  std::vector<Candidate> bad = some();
  bad[3].score = std::nan("");
  EXPECT_EQ(error_of([&] { select_pairs(bad, {}, 1); }), "the score of pair 3 (query q0) is not finite");
}

}  // namespace
}  // namespace unfurl::tests
