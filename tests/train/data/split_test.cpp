#include "train/data/split.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <map>
#include <numeric>
#include <set>

#include "core/error.h"
#include "kernels/philox.h"
#include "tests/train/data/fixture.h"
#include "train/corpus/text.h"

namespace unfurl::tests {
namespace {

using namespace unfurl::train;

/// Jaccard similarity of word 5-grams as the header defines it, in the plainest way.
std::set<std::string> plain_grams(const std::string& text) {
  std::string clean;
  for (const char c : text) clean += std::isalnum(static_cast<unsigned char>(c)) || (c & 0x80) ? c : ' ';
  clean = lower(clean);
  const auto words = split_words(clean);
  std::set<std::string> grams;
  if (words.empty()) return {"\n" + text};
  if (words.size() < 5) return {join(words)};
  for (std::size_t i = 0; i + 5 <= words.size(); ++i) grams.insert(join({words.begin() + i, words.begin() + i + 5}));
  return grams;
}

double jaccard(const std::set<std::string>& a, const std::set<std::string>& b) {
  std::size_t shared = 0;
  for (const std::string& gram : a) shared += b.count(gram);
  return static_cast<double>(shared) / static_cast<double>(a.size() + b.size() - shared);
}

/// Prompts of few different words, many of them alike.
std::vector<std::string> alike_prompts(int count, std::uint64_t seed) {
  std::vector<std::string> prompts = some_prompts(count, seed);
  for (std::size_t i = 1; i < prompts.size(); i += 2) {
    const auto bits = philox({seed, 77, 0}, i);
    prompts[i] = prompts[bits[0] % i];
    if (bits[1] % 3 == 0) prompts[i] += ", masterpiece of a thousand colours";
    if (bits[1] % 3 == 1) prompts[i] = prompts[i].substr(prompts[i].size() / 4);
  }
  return prompts;
}

TEST(NearDuplicates, AreTheClosureOfAllSimilarPairs) {
  for (const double similarity : {0.3, 0.5, 0.8, 1.0}) {
    const std::vector<std::string> prompts = alike_prompts(300, 3);
    std::vector<std::set<std::string>> grams;
    for (const std::string& prompt : prompts) grams.push_back(plain_grams(prompt));
    std::vector<std::int64_t> expected(prompts.size());
    std::iota(expected.begin(), expected.end(), 0);
    for (std::size_t i = 0; i < prompts.size(); ++i) {
      for (std::size_t j = 0; j < i; ++j) {
        if (jaccard(grams[i], grams[j]) < similarity || expected[i] == expected[j]) continue;
        const std::int64_t low = std::min(expected[i], expected[j]), high = std::max(expected[i], expected[j]);
        std::replace(expected.begin(), expected.end(), high, low);
      }
    }
    EXPECT_EQ(near_duplicate_groups(views(prompts), similarity), expected) << similarity;
    EXPECT_LT(std::set(expected.begin(), expected.end()).size(), prompts.size() * 9 / 10);
  }
}

TEST(NearDuplicates, ShortTextsAreAlikeWhereTheirWordsAre) {
  const std::vector<std::string_view> texts = {"A red cat!", "a  red, cat", "a red dog", "red cat",
                                               "...",        "!!",          "...",       ""};
  EXPECT_EQ(near_duplicate_groups(texts, 0.5), (std::vector<std::int64_t>{0, 0, 2, 3, 4, 5, 4, 7}));
}

TEST(Split, HasItsSharesAndKeepsSourcesTogether) {
  std::vector<Pair> pairs = some_pairs(20000, 1);
  for (std::size_t i = 0; i < pairs.size(); ++i) pairs[i].id = std::to_string(i / 2);
  SplitConfig config;
  config.similarity = 2;  // keys only
  const Split split = split_pairs(pairs, config);
  EXPECT_EQ(split.groups, 10000);
  EXPECT_EQ(split.merged, 0);
  EXPECT_EQ(split.largest_group, 2);
  EXPECT_NEAR(static_cast<double>(split.base), 7000, 300);
  EXPECT_NEAR(static_cast<double>(split.refine), 7000, 300);
  EXPECT_NEAR(static_cast<double>(split.validation), 4000, 300);
  EXPECT_NEAR(static_cast<double>(split.test), 2000, 300);
  EXPECT_EQ(split.base + split.refine + split.validation + split.test, 20000);
  for (std::size_t i = 0; i < pairs.size(); i += 2) EXPECT_EQ(split.sides[i], split.sides[i + 1]);
  config.seed = 1;
  EXPECT_NE(split_pairs(pairs, config).sides, split.sides);
}

TEST(Split, DoesNotDependOnOrder) {
  std::vector<Pair> pairs;
  for (const std::string& prompt : alike_prompts(1000, 4)) {
    Pair pair;
    pair.query = "q";
    pair.prompt = prompt;
    if (pairs.size() % 3 == 0) pair.id = std::to_string(pairs.size() / 6);
    pairs.push_back(pair);
  }
  const Split split = split_pairs(pairs);
  EXPECT_GT(split.merged, 0);
  std::vector<std::size_t> order(pairs.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(), [](std::size_t a, std::size_t b) {
    return philox({1, 2, 3}, a) < philox({1, 2, 3}, b);
  });
  std::vector<Pair> shuffled;
  for (const std::size_t i : order) shuffled.push_back(pairs[i]);
  const Split again = split_pairs(shuffled);
  for (std::size_t i = 0; i < order.size(); ++i) ASSERT_EQ(again.sides[i], split.sides[order[i]]);
  EXPECT_EQ(again.groups, split.groups);
}

TEST(Split, KeysAreIdsOrContent) {
  const auto key = [](const std::string& prompt, const std::string& id = "") {
    return split_key({"q", prompt, "", id, "", {}, {}});
  };
  EXPECT_EQ(key("A red  Cat, oil painting"), key("a red cat , pixel art"));
  EXPECT_NE(key("a red cat, oil painting"), key("a red dog, oil painting"));
  EXPECT_EQ(key("a", "x"), key("b", "x"));
  EXPECT_NE(key("x"), key("y", "x"));
  EXPECT_EQ(key(", a cat"), key("a cat"));
  EXPECT_NE(key("..."), key("!"));
}

TEST(Split, SharesMayBeZeroAndMustAddUp) {
  const std::vector<Pair> pairs = some_pairs(500, 2);
  SplitConfig all;
  all.train = 1, all.validation = 0, all.test = 0, all.base = 1;
  EXPECT_EQ(split_pairs(pairs, all).base, 500);
  EXPECT_TRUE(split_pairs({}).sides.empty());
  for (const auto& [train, validation, test] : {std::tuple{0.7, 0.2, 0.2}, {1.2, -0.1, -0.1}, {0.5, 0.2, 0.1}}) {
    SplitConfig bad;
    bad.train = train, bad.validation = validation, bad.test = test;
    EXPECT_TRUE(has(message_of<UserError>([&] { split_pairs(pairs, bad); }), "share"));
  }
}

TEST(Split, RealPromptsHaveNoNearDuplicatesAcrossSides) {
  const char* data = std::getenv("UNFURL_TEST_DATA");
  if (data == nullptr) GTEST_SKIP() << "UNFURL_TEST_DATA is not set";
  std::ifstream file(std::filesystem::path(data) / "prompts/diffusiondb.txt");
  std::vector<Pair> pairs;
  for (std::string line; std::getline(file, line);) pairs.push_back({line, line, "", "", "", {}, {}});
  const auto start = std::chrono::steady_clock::now();
  const Split split = split_pairs(pairs);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  std::vector<std::set<std::string>> grams;
  std::map<std::string, std::vector<std::size_t>> holders;
  for (std::size_t i = 0; i < pairs.size(); ++i) {
    grams.push_back(plain_grams(pairs[i].prompt));
    for (const std::string& gram : grams.back()) holders[gram].push_back(i);
  }
  SplitConfig keys_only;
  keys_only.similarity = 2;
  const Split naive = split_pairs(pairs, keys_only);
  const auto side = [](Side s) { return s == Side::refine ? Side::base : s; };
  int across = 0, naive_across = 0;
  for (std::size_t i = 0; i < pairs.size(); ++i) {
    std::map<std::size_t, std::size_t> shared;
    for (const std::string& gram : grams[i]) {
      for (const std::size_t j : holders[gram]) {
        if (j < i) ++shared[j];
      }
    }
    for (const auto& [j, n] : shared) {
      if (2 * n < grams[i].size() + grams[j].size() - n) continue;
      across += split.sides[i] != split.sides[j] ? 1 : 0;
      naive_across += side(naive.sides[i]) != side(naive.sides[j]) ? 1 : 0;
    }
  }
  EXPECT_EQ(across, 0);
  EXPECT_GT(naive_across, 0) << "the test must have something to find";
  std::printf(
      "%zu prompts in %.2f s: base %d, refine %d, validation %d, test %d; %d groups, %d merged, largest %d; similar "
      "pairs across sides: %d by keys alone, %d with groups\n",
      pairs.size(), seconds, static_cast<int>(split.base), static_cast<int>(split.refine),
      static_cast<int>(split.validation), static_cast<int>(split.test), static_cast<int>(split.groups),
      static_cast<int>(split.merged), static_cast<int>(split.largest_group), naive_across, across);
}

}  // namespace
}  // namespace unfurl::tests
