#include "train/corpus/normalize.h"

#include <gtest/gtest.h>

namespace unfurl::tests {
namespace {

using train::normalize_spacing;

TEST(NormalizeSpacing, MendsWhatTokenisersLeave) {
  const std::pair<const char*, const char*> cases[] = {
      {"8 k, 4 k uhd", "8k, 4k uhd"},
      {"sci - fi city, close - up", "sci-fi city, close-up"},
      {"19 - year - old girl - portrait", "19-year-old girl-portrait"},
      {"a road , 3 d render ,sharp focus,, 8k,", "a road, 3d render, sharp focus, 8k"},
      {"kodak portra 4 0 0, 1 9 8 5, 8 0 s, 2 0 2 2, 9 0's", "kodak portra 400, 1985, 80s, 2022, 90's"},
      {"the king ' s crown", "the king's crown"},
      {"( ( moss ) ) , [ fern ] !", "((moss)), [fern]!"},
      {"pixiv # 1 ranking", "pixiv #1 ranking"},
      {"mage \xEF\xBC\x8C dusk\xC2\xA0light", "mage, dusk light"},
      {" \t two  spaces \r", "two spaces"},
      {"1,000 books, 5 0 mm", "1,000 books, 50 mm"},
      {", , a ,", "a"},
      {" , ", ""},
      {"", ""},
  };
  for (const auto& [before, after] : cases) {
    EXPECT_EQ(normalize_spacing(before), after);
    EXPECT_EQ(normalize_spacing(after), after) << "a second time changes nothing";
  }
}

TEST(NormalizeSpacing, LeavesTheRest) {
  for (const char* text :
       {"a tower, oil painting", "D&D", "d & d", "16 books by 5 people", "pages 5 - 6", "- moss", "moss -",
        "' quoted phrase'", "f/1.8", "he said \"no\"", "\u00e9t\u00e9, caf\u00e9", "12 34 56"}) {
    EXPECT_EQ(normalize_spacing(text), text);
  }
}

}  // namespace
}  // namespace unfurl::tests
