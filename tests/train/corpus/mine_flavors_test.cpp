#include "train/corpus/mine_flavors.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>

#include "core/files.h"
#include "tests/support/expect_error.h"
#include "tests/support/temporary_folder.h"
#include "train/corpus/commands.h"
#include "train/corpus/segments.h"

namespace unfurl::tests {
namespace {

using namespace unfurl::train;

std::string text(const std::vector<MinedFlavor>& flavors) {
  std::string out;
  for (const MinedFlavor& flavor : flavors) {
    out += (out.empty() ? "" : ", ") + flavor.text + " " + std::to_string(flavor.prompts);
  }
  return out;
}

TEST(MineFlavors, BringsFlavorsToOneForm) {
  EXPECT_EQ(flavor_form(" Highly  Detailed. "), "highly detailed");
  EXPECT_EQ(flavor_form("8 k"), "8k");
  EXPECT_EQ(flavor_form("((sci - fi:1.3))"), "sci-fi");
  EXPECT_EQ(flavor_form("f/1.8"), "f/1.8");
  EXPECT_EQ(flavor_form("..."), "");
  EXPECT_EQ(flavor_form("ratio 3:2"), "ratio 3");
}

TEST(MineFlavors, SegmentsAPrompt) {
  const PromptFlavors flavors = flavors_of_prompt(
      "a fox in the snow. Sharp focus, 8 k, SHARP FOCUS, art by alphonse mucha and greg rutkowski, by hergé, and "
      "smooth, a table by the window, digital painting by wlop");
  EXPECT_EQ(flavors.first, "a fox in the snow");
  EXPECT_EQ(flavors.later, (std::vector<std::string>{"sharp focus", "8k", "alphonse mucha", "greg rutkowski", "hergé",
                                                     "smooth", "a table by the window", "wlop"}));
  EXPECT_EQ(flavors_of_prompt(", ,").first, "");
}

TEST(MineFlavors, ClausesAreToldFromFlavors) {
  for (const char* clause :
       {"wearing a red coat", "in the rain", "her eyes closed", "standing on a hill", "with wings"})
    EXPECT_TRUE(opens_clause(clause)) << clause;
  for (const char* flavor : {"trending on artstation", "lighting", "cinematic lighting", "painting by wlop", "sharp"})
    EXPECT_FALSE(opens_clause(flavor)) << flavor;
}

TEST(MineFlavors, CountsPromptsAndDropsContent) {
  FlavorMiner miner;
  miner.add("a castle, moody light, oil painting, in the rain, a red fox");
  miner.add("a tower, moody light, moody light, oil painting, in the rain, a red fox, tower");
  miner.add("tower, oil light, strange words here");
  miner.add("tower, one two three four five");
  FlavorMiner::Result mined = miner.mine({.min_count = 2});
  // "oil light" is rare, but made of words of flavors that are not.
  EXPECT_EQ(text(mined.flavors), "moody light 2, oil painting 2, oil light 1");
  EXPECT_EQ(mined.dropped, (std::map<std::string, std::int64_t>{{"content: goes on with a sentence", 1},
                                                                {"content: names a thing", 1},
                                                                {"content: stands first in most prompts", 1},
                                                                {"longer than --max-words", 1},
                                                                {"rare", 1}}));
  EXPECT_EQ(mined.an_example.at("content: names a thing"), "a red fox");
  EXPECT_EQ(text(miner.mine({.min_count = 2, .compose = false}).flavors), "moody light 2, oil painting 2");
  EXPECT_EQ(miner.mine({.min_count = 1}).flavors.size(), 4u);
  EXPECT_TRUE(miner.occurs("tower"));
  EXPECT_FALSE(miner.occurs("fox"));
}

TEST(MineFlavors, TheCommandComparesWithAList) {
  const TemporaryFolder folder;
  write_file(folder / "p.txt", "a fox, moody light, oil painting\na cat, moody light, oil painting, soft haze\n\n");
  write_file(folder / "r.txt", "Moody Light\nsoft haze\nnever said\n");
  MineFlavorsOptions options{.prompts = folder / "p.txt", .out = folder / "o/f.txt", .counts = folder / "c.tsv"};
  options.reference = {folder / "r.txt"};
  testing::internal::CaptureStdout();
  run_corpus_mine_flavors(options);
  const std::string out = testing::internal::GetCapturedStdout();
  EXPECT_EQ(read_file(folder / "o/f.txt"), "moody light\noil painting\n");
  EXPECT_EQ(read_file(folder / "c.tsv"), "2\tmoody light\n2\toil painting\n");
  EXPECT_NE(out.find("2 flavors from 2 prompts"), std::string::npos) << out;
  EXPECT_NE(out.find("reference 3 flavors, of which 2 are a segment"), std::string::npos) << out;
  EXPECT_NE(out.find("      0.500   0.500  <- written"), std::string::npos) << out;

  options.rules.min_count = 9;
  EXPECT_NE(error_of([&] { run_corpus_mine_flavors(options); }).find("is a flavor by these rules"), std::string::npos);
  write_file(folder / "p.txt", "");
  EXPECT_NE(error_of([&] { run_corpus_mine_flavors(options); }).find("is empty"), std::string::npos);
  options.out = folder / "r.txt";
  EXPECT_NE(error_of([&] { run_corpus_mine_flavors(options); }), "");
  EXPECT_EQ(read_file(folder / "r.txt"), "Moody Light\nsoft haze\nnever said\n");
}

TEST(MineFlavors, FindsTheFlavorsOfRealPrompts) {
  const char* data = std::getenv("UNFURL_TEST_DATA");
  if (data == nullptr) GTEST_SKIP() << "UNFURL_TEST_DATA is not set";
  const TemporaryFolder folder;
  MineFlavorsOptions options{.prompts = std::string(data) + "/prompts/diffusiondb.txt", .out = folder / "f.txt"};
  testing::internal::CaptureStdout();
  run_corpus_mine_flavors(options);
  testing::internal::GetCapturedStdout();
  std::vector<std::string> first;
  const std::string mined = read_file(options.out);
  for (std::size_t at = 0; first.size() < 20;) {
    const std::size_t end = mined.find('\n', at);
    first.push_back(mined.substr(at, end - at));
    at = end + 1;
  }
  for (const char* flavor : {"highly detailed", "artstation", "greg rutkowski", "sharp focus", "8k", "octane render"}) {
    EXPECT_NE(std::ranges::find(first, flavor), first.end()) << flavor;
  }
  EXPECT_GT(std::ranges::count(mined, '\n'), 4000);
}

}  // namespace
}  // namespace unfurl::tests
