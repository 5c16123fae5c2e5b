#include "train/judge/statistics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "core/error.h"
#include "core/files.h"
#include "tests/support/expect_error.h"
#include "tests/support/temporary_folder.h"
#include "train/corpus/draw.h"
#include "train/judge/scores.h"

namespace unfurl::train {
namespace {

constexpr double kNothing = std::numeric_limits<double>::quiet_NaN();

/// About normal, of mean 0 and standard deviation 1: the sum of twelve uniform numbers.
double normal(Draw& draw) {
  double sum = -6;
  for (int i = 0; i < 12; ++i) sum += draw.bits() * 0x1p-32;
  return sum;
}

/// Judgements of worlds: two systems that differ by `effect` on the mean, by queries that are hard or easy for both.
std::vector<Scores> worlds(std::uint64_t seed, int count, int queries, double effect) {
  std::vector<Scores> out;
  for (int w = 0; w < count; ++w) {
    Draw draw(seed, 99, static_cast<std::uint64_t>(w));
    Scores unit;
    unit.systems = {"a", "b"};
    unit.world = std::to_string(w);
    const double of_world = 0.02 * normal(draw);
    for (int q = 0; q < queries; ++q) {
      unit.queries.push_back({std::to_string(q), "query", "", "", ""});
      const double hard = normal(draw);
      unit.of["a"]["alignment"].push_back(hard + effect + of_world + 0.1 * normal(draw));
      unit.of["b"]["alignment"].push_back(hard + 0.1 * normal(draw));
    }
    out.push_back(std::move(unit));
  }
  return out;
}

TEST(StatisticsTest, MeansAndIntervalsOfHandMadeValues) {
  const std::vector<double> same(10, 3.0), two = {1, 3, kNothing};
  const Estimate constant = estimate(same, {});
  EXPECT_EQ(constant.mean, 3);
  EXPECT_EQ(constant.low, 3);
  EXPECT_EQ(constant.high, 3);
  const Estimate pair = estimate(two, {});
  EXPECT_EQ(pair.mean, 2);
  EXPECT_EQ(pair.count, 2U);
  EXPECT_EQ(pair.low, 1);
  EXPECT_EQ(pair.high, 3);
  EXPECT_FALSE(estimate(std::vector<double>{}, {}).defined());
  EXPECT_FALSE(estimate(std::vector<double>{kNothing}, {}).defined());
}

TEST(StatisticsTest, PairsTakeOutWhatBothSidesShare) {
  Draw draw(1, 98, 0);
  Scores scores;
  scores.queries.resize(50);
  for (int i = 0; i < 50; ++i) {
    const double hard = 100 * normal(draw);
    scores.of["a"]["alignment"].push_back(hard + 1);
    scores.of["b"]["alignment"].push_back(hard);
  }
  const Estimate found = estimate({scores.unit("a", "alignment", "b")}, {});
  EXPECT_NEAR(found.low, 1, 1e-9);
  EXPECT_NEAR(found.high, 1, 1e-9);
}

TEST(StatisticsTest, IntervalsCoverTheTruthAboutAsOftenAsTheySay) {
  int covered = 0;
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    Draw draw(seed, 97, 0);
    std::vector<double> values;
    for (int i = 0; i < 60; ++i) values.push_back(normal(draw));
    const Estimate found = estimate(values, {.seed = seed, .resamples = 300});
    covered += found.low <= 0 && 0 <= found.high ? 1 : 0;
  }
  EXPECT_GE(covered, 180);  // 95 % of 200, within three standard deviations
  EXPECT_LE(covered, 199);
}

TEST(StatisticsTest, NestedIntervalsAreWiderWhereUnitsDiffer) {
  std::vector<Unit> units;
  for (int u = 0; u < 5; ++u) units.push_back({std::vector<double>(100, u), {}, std::to_string(u)});
  const Estimate nested = estimate(units, {});
  EXPECT_EQ(nested.mean, 2);
  EXPECT_LT(nested.low, 1.3);
  EXPECT_GT(nested.high, 2.7);
}

TEST(StatisticsTest, UnitsOfOneWorldAreDrawnTogether) {
  // Nine units, and what differs is the world: as wide as of three units, not as of nine.
  std::vector<Unit> by_world, apart;
  for (int u = 0; u < 9; ++u) {
    const int world = u / 3;
    const std::vector<double> values(20, world);
    by_world.push_back({values, {}, std::to_string(world)});
    apart.push_back({values, {}, std::to_string(u)});
  }
  const Estimate together = estimate(by_world, {}), each = estimate(apart, {});
  EXPECT_EQ(together.mean, 1);
  EXPECT_EQ(together.low, 0);  // thrice the same world: one draw in 27
  EXPECT_EQ(together.high, 2);
  EXPECT_GT(each.low, 0.3);
  EXPECT_LT(each.high, 1.7);
}

TEST(StatisticsTest, ValuesOfAGroupAreDrawnTogether) {
  Unit unit;
  for (int i = 0; i < 400; ++i) {
    unit.values.push_back(i / 100 % 2);
    unit.groups.push_back(std::to_string(i / 100));
  }
  const Estimate grouped = estimate({unit}, {}), each = estimate(unit.values, {});
  EXPECT_EQ(grouped.mean, 0.5);
  EXPECT_EQ(grouped.count, 400U);
  EXPECT_EQ(grouped.low, 0);  // four draws: all of them 0 in one of 16
  EXPECT_EQ(grouped.high, 1);
  EXPECT_GT(each.low, 0.4);
  EXPECT_LT(each.high, 0.6);
  unit.values[399] = kNothing;  // a mean over values, not over groups
  EXPECT_DOUBLE_EQ(estimate({unit}, {}).mean, 199.0 / 399);
}

TEST(StatisticsTest, APlantedEffectIsFoundAndANullWorldShowsNone) {
  const HypothesisConfig hypothesis{"planted", "a", "b", "alignment", 0.05};
  int found = 0, imagined = 0;
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    const Bootstrap bootstrap{seed, 300, 0.95};
    found += test_hypotheses(worlds(seed, 15, 40, 0.08), {hypothesis}, bootstrap)[0].verdict == Verdict::supported;
    imagined +=
        test_hypotheses(worlds(seed + 100, 15, 40, 0), {hypothesis}, bootstrap)[0].verdict == Verdict::supported;
  }
  EXPECT_GE(found, 19);
  EXPECT_LE(imagined, 1);
}

TEST(StatisticsTest, AHypothesisMayBeOnAValueAlone) {
  Scores scores;
  scores.queries.resize(4);
  scores.systems = {"a"};
  scores.of["a"]["content_unchanged"] = {1, 1, 0.75, 1};
  const auto verdict = [&](double smallest) {
    return test_hypotheses({scores}, {{"kept", "a", "", "content_unchanged", smallest}}, {})[0];
  };
  EXPECT_DOUBLE_EQ(verdict(0.5).difference.mean, 0.9375);
  EXPECT_EQ(verdict(0.9).verdict, Verdict::supported);
  EXPECT_EQ(verdict(0.95).verdict, Verdict::undecided);
  EXPECT_EQ(verdict(0.9).found, 1U);
  EXPECT_EQ(verdict(0.95).found, 0U);
}

TEST(StatisticsTest, VerdictsFollowTheInterval) {
  EXPECT_EQ(judge_difference({0.2, 0.1, 0.3, 9}, 0.15), Verdict::supported);
  EXPECT_EQ(judge_difference({0.1, 0.05, 0.3, 9}, 0.15), Verdict::undecided);
  EXPECT_EQ(judge_difference({0.2, -0.1, 0.5, 9}, 0.15), Verdict::undecided);
  EXPECT_EQ(judge_difference({0.05, 0.01, 0.1, 9}, 0.15), Verdict::refuted);
  EXPECT_EQ(judge_difference({-0.2, -0.3, -0.1, 9}, 0), Verdict::refuted);
  EXPECT_EQ(judge_difference({}, 0), Verdict::undecided);
}

TEST(ScoresTest, GoThroughAFile) {
  const tests::TemporaryFolder folder;
  Scores scores = worlds(1, 1, 3, 0)[0];
  scores.simulated = true;
  scores.of["a"]["aesthetic"] = {1, kNothing, 3};
  write_scores(folder / "q.jsonl", scores);
  const Scores read = read_scores(folder / "q.jsonl");
  EXPECT_TRUE(read.simulated);
  EXPECT_EQ(read.systems, scores.systems);
  EXPECT_EQ(read.numbers("a", "alignment"), scores.numbers("a", "alignment"));
  EXPECT_EQ(read.numbers("a", "aesthetic")[2], 3);
  EXPECT_TRUE(std::isnan(read.numbers("a", "aesthetic")[1]));
  EXPECT_TRUE(std::isnan(read.numbers("b", "aesthetic")[0]));
  EXPECT_NE(tests::error_of([&] { read.numbers("c", "alignment"); }).find("no system \"c\""), std::string::npos);
  write_file(folder / "bad.jsonl", "{\"system\": \"a\"}\n");
  EXPECT_NE(tests::error_of([&] { read_scores(folder / "bad.jsonl"); }).find("bad.jsonl:1"), std::string::npos);
}

}  // namespace
}  // namespace unfurl::train
