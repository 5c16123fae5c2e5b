#include "train/corpus/baselines.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>

#include "core/error.h"
#include "core/files.h"
#include "train/corpus/draw.h"
#include "train/corpus/ngrams.h"
#include "train/corpus/segments.h"

namespace unfurl::tests {
namespace {

using namespace unfurl::train;

Pair pair_of(std::string query, std::string prompt) {
  return {std::move(query), std::move(prompt), "", "", "", {}, {}};
}

std::string random_letters(std::uint64_t item, std::size_t count, std::size_t letters) {
  Draw draw(11, 1, item);
  std::string text;
  for (std::size_t i = 0; i < count; ++i) text += static_cast<char>('a' + draw.below(letters));
  return text;
}

TEST(Baselines, TakeThePartBehindTheQuery) {
  EXPECT_EQ(after_query(pair_of("a fox", "a fox, moody")), ", moody");
  EXPECT_EQ(after_query(pair_of("fox", "a fox, moody")), "a fox, moody");
  EXPECT_EQ(after_query(pair_of("a fox", "a fox")), "");
}

TEST(Baselines, ProbabilitiesSumToOne) {
  ByteNgrams model(4);
  for (std::uint64_t i = 0; i < 20; ++i) model.add(random_letters(i, 60, 3));
  for (const char* context : {"", "a", "ab", "abc", "cabcab", "zzz", "az"}) {
    double sum = 0;
    for (int next = 0; next < 256; ++next) {
      if (next == '\n') continue;
      // The bits of one byte are those of the byte and the end, less those of the end behind it.
      const std::string text(1, static_cast<char>(next));
      sum += std::exp2(-(model.bits(context, text) - model.bits(std::string(context) + text, "")));
    }
    sum += std::exp2(-model.bits(context, ""));
    EXPECT_NEAR(sum, 1, 1e-9) << context;
  }
}

TEST(Baselines, NgramsLearnWhatTheyRead) {
  // Four letters at random cost two bits each, whatever is in front of them.
  std::vector<std::string> training;
  for (std::uint64_t i = 0; i < 300; ++i) training.push_back(random_letters(i, 400, 4));
  const std::vector<Pair> test = {pair_of("q", random_letters(1000, 3000, 4))};
  EXPECT_NEAR(ngram_baseline(training, test, 3).bits_per_byte(), 2, 0.03);
  // A text seen before costs next to nothing; the query is free.
  const std::vector<std::string> known(50, "a red fox, moody, soft light");
  const BaselineResult fox =
      ngram_baseline(known, std::vector<Pair>{pair_of("a red fox", "a red fox, moody, soft light")});
  EXPECT_EQ(fox.bytes, 19);
  EXPECT_LT(fox.bits_per_byte(), 0.1);
  EXPECT_GT(ngram_baseline({}, test).bits_per_byte(), 7.9) << "an empty model knows nothing";
  EXPECT_EQ(ngram_baseline(known, std::vector<Pair>{}).bits_per_byte(), 0);
  EXPECT_THROW(ByteNgrams(1), Error);
  EXPECT_THROW(ByteNgrams(8), Error);
}

TEST(Baselines, XzPaysForWhatIsNew) {
  std::vector<std::string> training;
  for (std::uint64_t i = 0; i < 50; ++i) training.push_back(random_letters(i, 500, 26));
  const std::vector<Pair> fresh = {pair_of("free", "free" + random_letters(1000, 4000, 26))};
  EXPECT_NEAR(xz_baseline(training, fresh).bits_per_byte(), std::log2(26), 0.35);
  const std::vector<Pair> seen = {pair_of("free", "free" + training[7] + training[9])};
  EXPECT_LT(xz_baseline(training, seen).bits_per_byte(), 0.4);
  const std::vector<Pair> nothing = {pair_of("free", "free")};
  EXPECT_EQ(xz_baseline(training, nothing).bits_per_byte(), 0);
  EXPECT_GT(xz_baseline({}, fresh).bits_per_byte(), 4);
}

TEST(Baselines, RealPromptsCostWhatIsKnown) {
  const char* data = std::getenv("UNFURL_TEST_DATA");
  if (data == nullptr) GTEST_SKIP() << "UNFURL_TEST_DATA is not set";
  const std::string text = read_file(std::filesystem::path(data) / "prompts" / "diffusiondb.txt");
  std::vector<std::string> training;
  std::vector<Pair> test;
  // A third of the list, for speed: 1.34 and 1.31 on all of it.
  for (std::size_t at = 0; at < text.size() / 3;) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    Pair pair = pair_of("", text.substr(at, end - at));
    at = end + 1;
    const auto segments = split_segments(pair.prompt);
    if (segments.empty()) continue;
    pair.query = segments[0];
    if (hash_bytes(content_id(segments[0])) % 10 != 0) {
      training.push_back(pair.prompt);
    } else if (segments.size() > 1) {
      test.push_back(pair);
    }
  }
  EXPECT_NEAR(xz_baseline(training, test).bits_per_byte(), 1.506, 0.01);
  EXPECT_NEAR(ngram_baseline(training, test).bits_per_byte(), 1.403, 0.01);
}

TEST(SeenNgrams, MeasuresHowOldAPromptIs) {
  SeenNgrams seen(3);
  seen.add("A red fox, under the bridge");
  seen.add("two words");
  EXPECT_DOUBLE_EQ(seen.share("a red fox under the bridge"), 1);
  EXPECT_DOUBLE_EQ(seen.share("a red fox over the bridge"), 0.25);
  EXPECT_DOUBLE_EQ(seen.share("Two Words!"), 1) << "a short prompt is one gram";
  EXPECT_DOUBLE_EQ(seen.share("red fox"), 0) << "a shorter run is no gram of the longer prompt";
  EXPECT_DOUBLE_EQ(seen.share(" , "), 0);
  EXPECT_DOUBLE_EQ(seen.share(""), 0);
}

}  // namespace
}  // namespace unfurl::tests
