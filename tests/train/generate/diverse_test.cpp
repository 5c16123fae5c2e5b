#include "train/generate/diverse.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "core/error.h"
#include "tests/support/random.h"
#include "tests/train/generate/fake_model.h"
#include "train/generate/expander.h"

namespace unfurl::train {
namespace {

using Indices = std::vector<std::size_t>;

TEST(Diverse, TakesTheTwoFarthestApartThenWhatIsFarFromThem) {
  const std::vector<std::string> texts = {"a fox, oil painting, red", "a fox, oil painting, blue",
                                          "a fox, oil painting", "a fox, studio photo", "a fox, studio photo, red"};
  // 1 and 3 share nothing but the query; 0 is nearer to 1 than 4 is to 3.
  EXPECT_EQ(most_different(texts, 2), (Indices{0, 3}));
  EXPECT_EQ(most_different(texts, 5), (Indices{0, 1, 2, 3, 4}));
  EXPECT_EQ(most_different(texts, 9), (Indices{0, 1, 2, 3, 4}));
  EXPECT_EQ(most_different(texts, 1), (Indices{0}));
  EXPECT_EQ(most_different(texts, 0), Indices{});
  EXPECT_EQ(most_different(std::vector<std::string>{}, 3), Indices{});
  EXPECT_EQ(most_different(std::vector<std::string>{"x", "x", "x"}, 2), (Indices{0, 1}));
}

TEST(Diverse, WhatAllHaveInCommonDoesNotCount) {
  // With the query the first two would be nearer to each other than they are: 8 of its words are the same.
  const std::vector<std::string> texts = {"one two three four five six seven eight, a b",
                                          "one two three four five six seven eight, a c",
                                          "one two three four five six seven eight, d e"};
  EXPECT_EQ(most_different(texts, 2), (Indices{0, 2}));
}

TEST(Diverse, NearestChosenOneDecides) {
  // c is far from a, but near to b.
  const std::vector<std::string> texts = {"a a1 a2 a3", "b b1 b2 b3", "b b1 b2 c", "a b d e"};
  EXPECT_EQ(most_different(texts, 3), (Indices{0, 1, 3}));
}

TEST(Diverse, EmbeddingsOfTheGreatestVariance) {
  const std::vector<std::vector<float>> embeddings = {{1, 0, 0}, {2, 0.2f, 0}, {0, 1, 0}, {0, 0.1f, 3}, {-4, 0, 0}};
  EXPECT_EQ(most_different(embeddings, 2), (Indices{0, 4}));
  const Indices three = most_different(embeddings, 3);
  EXPECT_EQ(three.size(), 3u);
  const std::vector<std::vector<float>> other = {{1, 0}, {1, 0, 0}};
  EXPECT_THROW(most_different(other, 1), Error);
  const std::vector<std::vector<float>> bad = {{1, 0}, {1, std::nanf("")}};
  EXPECT_THROW(most_different(bad, 1), Error);
}

/// The sum of the squared distances between unit vectors.
double spread_of(const std::vector<std::vector<float>>& embeddings, const Indices& chosen) {
  double sum = 0;
  for (const std::size_t i : chosen) {
    for (const std::size_t j : chosen) {
      double dot = 0, a = 0, b = 0;
      for (std::size_t k = 0; k < embeddings[i].size(); ++k) {
        dot += embeddings[i][k] * embeddings[j][k];
        a += embeddings[i][k] * embeddings[i][k];
        b += embeddings[j][k] * embeddings[j][k];
      }
      sum += 2 - 2 * dot / std::sqrt(a * b);
    }
  }
  return sum;
}

TEST(Diverse, GreedyChoiceIsFarBetterThanTheFirstAndNearTheBest) {
  double greedy = 0, first = 0, best = 0;
  for (std::uint32_t seed = 0; seed < 20; ++seed) {
    std::vector<std::vector<float>> embeddings;
    for (std::uint64_t i = 0; i < 9; ++i) {
      std::vector<float> row;
      for (std::uint64_t k = 0; k < 5; ++k) row.push_back(uniform(philox({seed, 77, 0}, i * 5 + k)[0]) - 0.3f);
      embeddings.push_back(row);
    }
    greedy += spread_of(embeddings, most_different(embeddings, 4));
    first += spread_of(embeddings, {0, 1, 2, 3});
    double most = 0;
    for (int mask = 0; mask < 512; ++mask) {
      Indices chosen;
      for (std::size_t i = 0; i < 9; ++i) {
        if ((mask >> i & 1) != 0) chosen.push_back(i);
      }
      if (chosen.size() == 4) most = std::max(most, spread_of(embeddings, chosen));
    }
    best += most;
  }
  EXPECT_GT(greedy, 1.2 * first);
  EXPECT_GT(greedy, 0.93 * best);
}

TEST(Diverse, ExpanderDrawsManyAndGivesThoseThatDifferMost) {
  tests::FakeCodec codec(tests::fake_words());
  tests::FakeModel model(codec.size(), 64, tests::fake_rule(codec));
  Expander expander(model, codec);
  ExpandSettings settings;
  settings.seed = 3;
  settings.count = 12;
  const Expansions all = expander.expand("a cat", settings);
  ASSERT_EQ(all.items.size(), 12u);
  settings.count = 3;
  settings.diverse = 12;
  const Expansions some = expander.expand("a cat", settings);
  ASSERT_EQ(some.items.size(), 3u);
  std::vector<std::string> texts;
  for (const Expansion& item : all.items) texts.push_back(item.text);
  const Indices expected = most_different(texts, 3);
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(some.items[i].sample, static_cast<Index>(expected[i]));
    EXPECT_EQ(some.items[i].text, texts[expected[i]]);
  }
  EXPECT_TRUE(some.warnings.empty());
  settings.diverse = 2;
  EXPECT_THROW(expander.expand("a cat", settings), UserError);
  settings.diverse = 257;
  EXPECT_THROW(expander.expand("a cat", settings), UserError);
}

}  // namespace
}  // namespace unfurl::train
