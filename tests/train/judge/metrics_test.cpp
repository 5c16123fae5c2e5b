#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <limits>
#include <set>

#include "core/files.h"
#include "tests/support/expect_error.h"
#include "tests/support/temporary_folder.h"
#include "train/judge/content_change.h"
#include "train/judge/controls.h"
#include "train/judge/images.h"
#include "train/judge/queries.h"
#include "train/judge/text_metrics.h"

namespace unfurl::train {
namespace {

constexpr double kNothing = std::numeric_limits<double>::quiet_NaN();

TEST(TextMetricsTest, CountsByHand) {
  EXPECT_DOUBLE_EQ(distinct_n({"a b a", "b c"}, 1), 3.0 / 5);
  EXPECT_DOUBLE_EQ(distinct_n({"a b a", "a b"}, 2), 2.0 / 3);
  EXPECT_EQ(distinct_n({"a"}, 2), 0);
  EXPECT_DOUBLE_EQ(self_bleu({"a red fox in snow", "a red fox in snow"}), 1);
  EXPECT_DOUBLE_EQ(self_bleu({"a red fox", "one blue dog"}), 0);
  EXPECT_EQ(self_bleu({"alone"}), 0);
  // Of "a b": both words of the other's three, and its one pair, as (1 + 1) / (1 + 1); half its length is missing.
  EXPECT_NEAR(self_bleu({"a b", "a b c"}), (std::exp(1 - 1.5) + std::pow(2.0 / 3 * 2 / 3 * 1 / 2, 0.25)) / 2, 1e-12);
  EXPECT_DOUBLE_EQ(content_kept("a red fox", "the fox, oil painting"), 0.5);
  EXPECT_DOUBLE_EQ(content_kept("of the", "anything"), 1);
  EXPECT_DOUBLE_EQ(content_kept("a wide-eyed fox", "a wide-eyed fox, oil painting"), 1);
  EXPECT_DOUBLE_EQ(content_kept("a wide-eyed fox", "a wide fox"), 0.5);
  EXPECT_DOUBLE_EQ(unknown_share("a fox qxz 4", {"a", "fox"}), 1.0 / 3);
  EXPECT_EQ(length("a red  fox"), 3);
}

TEST(ContentChangeTest, TellsFlavorsFromContent) {
  const std::vector<std::string> prompts(5, "a tower, misty dawn, soft light, heavy snow");
  const ContentChange content(prompts, {{"a tower, heavy snow", "a tower, heavy snow, soft light"}});
  using Counts = std::array<std::size_t, 3>;  // added, lost, flavors
  const auto change = [&](const char* query, const char* prompt) {
    const ContentChange::Change found = content.between(query, prompt);
    EXPECT_EQ(found.unchanged(), found.added == 0 && found.lost == 0);
    return Counts{found.added, found.lost, found.flavors};
  };
  EXPECT_EQ(change("a red fox", "a red fox, misty dawn, oil painting"), (Counts{0, 0, 2}));
  EXPECT_EQ(change("a red fox", "a red fox"), (Counts{0, 0, 0}));
  EXPECT_EQ(change("a red fox", "a photo of a fox in deep snow, soft light"), (Counts{2, 1, 1}));
  EXPECT_EQ(change("a fox", "a fox, heavy snow, soft light"), (Counts{2, 0, 1})) << "content, as a pair says";
  EXPECT_EQ(change("a fox", "a fox, soft light, two red doors"), (Counts{3, 0, 1})) << "no flavor, though behind one";
  EXPECT_EQ(change("a fox, soft light", "a fox, soft light, misty dawn"), (Counts{0, 0, 1}));
  EXPECT_EQ(change("", "a fox"), (Counts{1, 0, 0}));
}

TEST(ImageMetricsTest, ByHand) {
  const auto image = [](std::vector<float> embedding, std::optional<double> aesthetic) {
    return ImageAnswer{"", std::move(embedding), {1, 0}, {0, 1}, aesthetic, ""};
  };
  const std::vector<ImageAnswer> answers = {image({2, 0}, 4.0), image({0, 3}, 6.0)};
  const ImageMetrics found = image_metrics(answers);
  EXPECT_EQ(found.alignments, (std::vector<double>{1, 0}));
  EXPECT_DOUBLE_EQ(found.alignment, 0.5);
  EXPECT_DOUBLE_EQ(found.prompt_alignment, 0.5);
  EXPECT_DOUBLE_EQ(found.aesthetic, 5);
  EXPECT_DOUBLE_EQ(found.diversity, 0.5);  // each is sqrt(1/2) from (1/2, 1/2)
  EXPECT_TRUE(std::isnan(image_metrics(std::vector{image({1, 0}, {})}).aesthetic));
  EXPECT_TRUE(std::isnan(image_metrics(std::vector{image({1, 0}, {})}).diversity));
  // An image that the side refuses counts nowhere.
  ImageAnswer refused;
  refused.refused = "unsafe";
  const ImageMetrics without = image_metrics(std::vector{answers[0], refused, answers[1]});
  EXPECT_DOUBLE_EQ(without.alignment, found.alignment);
  EXPECT_DOUBLE_EQ(without.aesthetic, found.aesthetic);
  EXPECT_DOUBLE_EQ(without.diversity, found.diversity);
  EXPECT_TRUE(std::isnan(without.alignments[1]) && std::isnan(without.aesthetics[1]));
  EXPECT_EQ(cosine(std::vector<float>{0, 0}, std::vector<float>{1, 0}), 0);
  EXPECT_DOUBLE_EQ(wins(std::vector<double>{1, 2, kNothing}, std::vector<double>{0, 2, 5}), 0.75);
  EXPECT_TRUE(std::isnan(wins(std::vector<double>{kNothing}, std::vector<double>{1})));
  EXPECT_EQ(best_wins(std::vector<double>{1, 5, kNothing}, std::vector<double>{4, 4, 4}), 1);
  EXPECT_EQ(best_wins(std::vector<double>{1}, std::vector<double>{4}), 0);
}

TEST(ControlsTest, FlavorsAreThoseOfTheTrainingPromptsAndCount) {
  std::vector<std::string> prompts;
  for (int i = 0; i < 5; ++i) prompts.push_back("a tower " + std::to_string(i) + ", oil painting, sharp focus");
  const FrequentFlavors flavors(prompts, 10);
  EXPECT_EQ(flavors.size(), 2U);
  const std::string prompt = flavors.prompt("a fox", 2, 1, 0);
  EXPECT_TRUE(prompt == "a fox, oil painting, sharp focus" || prompt == "a fox, sharp focus, oil painting") << prompt;
  EXPECT_EQ(flavors.prompt("a fox", 0, 1, 0), "a fox");
  EXPECT_EQ(flavors.prompt("a fox", 1, 1, 3), flavors.prompt("a fox", 1, 1, 3));
  std::set<std::string> drawn;
  for (std::uint64_t sample = 0; sample < 20; ++sample) drawn.insert(flavors.prompt("a fox", 1, 1, sample));
  EXPECT_EQ(drawn.size(), 2U) << "each sample is a draw of its own";
  EXPECT_EQ(added_segments("a fox", "a fox, oil painting, sharp focus"), 2U);
  EXPECT_EQ(added_segments("a fox", "the fox, oil"), 1U);
}

TEST(ControlsTest, NearestSharesTheRareWords) {
  const NearestPrompts nearest({"a red fox, oil", "a blue fox, oil", "a castle, oil", "a fox and a castle, oil"});
  EXPECT_EQ(nearest.find("red fox", 1), std::vector<std::string>{"a red fox, oil"});
  EXPECT_EQ(nearest.find("castle", 1), std::vector<std::string>{"a castle, oil"});
  EXPECT_EQ(nearest.find("zeppelin", 2).size(), 2U);
  EXPECT_EQ(nearest.find("fox", 9).size(), 4U);
}

TEST(QueriesTest, ReadEveryKindOfFile) {
  const tests::TemporaryFolder folder;
  write_file(folder / "q.txt", "a fox\n\n  a dog \na fox\n");
  ASSERT_EQ(read_queries(folder / "q.txt", 0).size(), 2U);
  EXPECT_EQ(read_queries(folder / "q.txt", 0)[1].text, "a dog");
  write_file(folder / "q.tsv", "Prompt\tCategory\na \"quoted\" fox\tAnimals\n");
  EXPECT_EQ(read_queries(folder / "q.tsv", 0)[0].text, "a \"quoted\" fox");
  EXPECT_EQ(read_queries(folder / "q.tsv", 0)[0].type, "Animals");
  // Few of many come from everywhere in the file, and so do the first of them.
  std::string many;
  for (int i = 0; i < 100; ++i) many += "query " + std::to_string(i) + "\n";
  write_file(folder / "many.txt", many);
  std::set<std::string> all;
  std::array<int, 4> quarters{};
  const auto spread = read_queries(folder / "many.txt", 0);
  for (std::size_t i = 0; i < spread.size(); ++i) {
    all.insert(spread[i].text);
    if (i < 12) ++quarters[std::stoul(spread[i].text.substr(6)) / 25];
  }
  EXPECT_EQ(all.size(), 100U);
  for (const int count : quarters) EXPECT_GE(count, 2);
  std::string lines;
  for (int i = 0; i < 9; ++i)
    lines += "{\"query\": \"a" + std::to_string(i) + "\", \"prompt\": \"p\", \"type\": \"short\"}\n";
  lines += "{\"query\": \"b\", \"prompt\": \"p\", \"type\": \"long\", \"source\": \"natural\"}\n";
  lines += "{\"query\": \"c\", \"prompt\": \"p\", \"type\": \"copy\"}\n";
  write_file(folder / "q.jsonl", lines);
  const auto few = read_queries(folder / "q.jsonl", 4);
  ASSERT_EQ(few.size(), 4U);
  EXPECT_EQ(few[0].text, "b");  // its type is not crowded out
  EXPECT_EQ(few[0].source, "natural");
  EXPECT_EQ(read_queries(folder / "q.jsonl", 0).size(), 10U);
  write_file(folder / "empty.txt", "\n\n");
  EXPECT_NE(tests::error_of([&] { read_queries(folder / "empty.txt", 0); }).find("holds no query"), std::string::npos);
  write_file(folder / "bad.jsonl", "nonsense\n");
  EXPECT_NE(tests::error_of([&] { read_queries(folder / "bad.jsonl", 0); }), "");
}

}  // namespace
}  // namespace unfurl::train
