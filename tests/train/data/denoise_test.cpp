#include "train/data/denoise.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <numeric>

#include "core/error.h"

namespace unfurl::train {
namespace {

constexpr std::int32_t kFirstText = 1000;

std::vector<std::int32_t> text_of(Index length) {
  std::vector<std::int32_t> text(static_cast<std::size_t>(length));
  std::iota(text.begin(), text.end(), kFirstText);
  return text;
}

struct Spans {
  std::vector<Index> lengths;
  Index left_out = 0;
  std::vector<std::int32_t> whole;  // the text put together again
};

/// Reads an example back: sentinels count from 0 on both sides, and each stands for one span that is not empty.
Spans read(const Example& example, bool with_sentinels) {
  Spans out;
  const auto sentinel = [](std::int32_t token) { return token >= Tokenizer::kControls && token < kFirstText; };
  std::map<std::int32_t, std::vector<std::int32_t>> spans;
  std::int32_t last = 0;
  const auto middle = example.tokens.begin() + example.prefix_length;
  EXPECT_EQ(middle[-1], Tokenizer::kSeparator);
  EXPECT_EQ(example.tokens.back(), Tokenizer::kEnd);
  for (auto at = middle; at + 1 != example.tokens.end(); ++at) {
    if (sentinel(*at)) {
      EXPECT_EQ(*at, Tokenizer::kControls + static_cast<std::int32_t>(spans.size()));
      last = *at;
      spans[last];
    } else {
      spans[last].push_back(*at);
    }
  }
  for (auto at = example.tokens.begin() + 1; at + 1 != middle; ++at) {
    if (!sentinel(*at)) {
      out.whole.push_back(*at);
      continue;
    }
    EXPECT_FALSE(at > example.tokens.begin() + 1 && sentinel(at[-1])) << "two spans without a token between them";
    out.whole.insert(out.whole.end(), spans[*at].begin(), spans[*at].end());
  }
  if (!with_sentinels) out.whole.insert(out.whole.end(), spans[0].begin(), spans[0].end());
  for (const auto& [id, span] : spans) {
    EXPECT_FALSE(span.empty());
    out.lengths.push_back(static_cast<Index>(span.size()));
    out.left_out += static_cast<Index>(span.size());
  }
  return out;
}

// Over a million tokens, in texts long enough for the longest spans.
TEST(Denoise, SpansHaveTheMeanLengthAndRateOfTheirDenoiser) {
  for (const Denoiser& denoiser : kDenoisers) {
    SCOPED_TRACE(testing::Message() << denoiser.mode << ", " << denoiser.mean << ", " << denoiser.rate);
    Draws draws({3, 1, 0}, 0);
    Index tokens = 0, spans = 0, left_out = 0;
    double squares = 0;
    for (Index i = 0; tokens < 1'000'000; ++i) {
      const std::vector<std::int32_t> text = text_of(500 + i % 301);
      const Spans found = read(denoise(text, denoiser, 1 << 10, draws), denoiser.mean > 0);
      ASSERT_EQ(found.whole, text);
      tokens += static_cast<Index>(text.size());
      spans += static_cast<Index>(found.lengths.size());
      left_out += found.left_out;
      for (const Index length : found.lengths) squares += static_cast<double>(length * length);
      ASSERT_TRUE(denoiser.mean > 0 || found.lengths.size() == 1);
    }
    EXPECT_NEAR(static_cast<double>(left_out) / static_cast<double>(tokens), denoiser.rate, 0.002 * denoiser.rate);
    if (denoiser.mean == 0) continue;
    const double mean = static_cast<double>(left_out) / static_cast<double>(spans);
    EXPECT_NEAR(mean, denoiser.mean, 0.02 * denoiser.mean);
    EXPECT_GT(squares / static_cast<double>(spans), 1.2 * mean * mean);  // they differ in length
  }
}

// A sequence of 96 rows, as in training: short spans keep their statistics, long ones are as long as what is left out.
TEST(Denoise, ShortTextsHaveOneSpanAtLeast) {
  Draws draws({3, 1, 0}, 0);
  for (Index length = 1; length < 40; ++length) {
    for (const Denoiser& denoiser : kDenoisers) {
      const std::vector<std::int32_t> text = text_of(length);
      const Example example = denoise(text, denoiser, 30, draws);
      EXPECT_EQ(example.tokens[0], denoiser.mode);
      const Spans found = read(example, denoiser.mean > 0);
      EXPECT_EQ(found.whole, text);
      EXPECT_GE(found.left_out, 1);
      EXPECT_TRUE(length == 1 || found.left_out < length);
    }
  }
}

TEST(Denoise, ExamplesFitTheContextAndAreDrawnByTheirKey) {
  std::map<std::int32_t, Index> modes;
  for (const Index context : {8, 33, 96, 128}) {
    for (const Objective objective : {Objective::ul2, Objective::causal, Objective::prefix_lm}) {
      const Index most = document_tokens(objective, context), sentinels = sentinels_needed(objective, context);
      Index longest = 0;
      for (std::uint64_t i = 0; i < 2000; ++i) {
        const auto text = text_of(i % 3 == 0 ? most : 1 + static_cast<Index>(i) % most);
        Draws draws({5, 2, 7}, i << 24), again({5, 2, 7}, i << 24);
        const Example example = document_example(text, objective, context, sentinels, draws);
        EXPECT_EQ(document_example(text, objective, context, sentinels, again).tokens, example.tokens);
        EXPECT_FALSE(example.truncated);
        EXPECT_GE(example.prefix_length, 1);
        EXPECT_LT(example.prefix_length, static_cast<Index>(example.tokens.size()));
        longest = std::max(longest, example.rows());
        if (objective == Objective::ul2 && context == 96) ++modes[example.tokens[0]];
        EXPECT_TRUE(objective != Objective::causal || example.prefix_length == 1);
      }
      EXPECT_LE(longest, context);
      EXPECT_GE(longest, context - 3);
      Draws draws({5, 2, 7}, 0);
      EXPECT_TRUE(document_example(text_of(most + 1), objective, context, sentinels, draws).truncated);
    }
  }
  // Two denoisers are R, four X, one S.
  EXPECT_NEAR(modes[Tokenizer::kModeR], 2000 * 2 / 7, 80);
  EXPECT_NEAR(modes[Tokenizer::kModeX], 2000 * 4 / 7, 80);
  EXPECT_NEAR(modes[Tokenizer::kModeS], 2000 * 1 / 7, 80);
}

}  // namespace
}  // namespace unfurl::train
