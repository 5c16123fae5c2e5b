#include "train/generate/characters.h"

#include <gtest/gtest.h>

#include "train/corpus/text.h"
#include "train/generate/cut.h"

namespace unfurl::train {
namespace {

TEST(Characters, FoldsLatinGreekAndCyrillic) {
  EXPECT_EQ(folded("  ÉCOLE \t Žižkov\nŁódź "), "école žižkov łódź");
  EXPECT_EQ(folded("ΆΡΤΕΜΙΣ"), "άρτεμισ");
  EXPECT_EQ(folded("МОСКВА Ёлка"), "москва ёлка");
  EXPECT_EQ(folded("“Don’t” – ＯＫ"), "\"don't\" - ok");
  EXPECT_EQ(folded("猫 \U0001F600"), "猫 \U0001F600");
  EXPECT_EQ(folded(" \xC2\xA0 "), "");
}

TEST(Characters, KnowsWordsFromIdeographsAndPunctuation) {
  for (const char32_t code : {U'a', U'Z', U'7', U'_', U'é', U'ж', U'한'})
    EXPECT_TRUE(is_word_character(code)) << static_cast<std::uint32_t>(code);
  for (const char32_t code : {U' ', U',', U'-', U'…', U'。', U'猫', U'の', char32_t{0x1F600}, U'×'}) {
    EXPECT_FALSE(is_word_character(code)) << static_cast<std::uint32_t>(code);
  }
  EXPECT_EQ(count_words("a cat , 8k -- 猫"), 4);
  EXPECT_EQ(count_words(""), 0);
  EXPECT_EQ(count_words(" ,, "), 0);
}

TEST(Characters, FindsCharactersCutInTwo) {
  const std::string text = "aé猫\U0001F600";
  // What is cut off at every byte is a valid beginning, and the tail is all that is missing a character.
  for (std::size_t length = 0; length <= text.size(); ++length) {
    const std::string_view head = std::string_view(text).substr(0, length);
    EXPECT_TRUE(valid_utf8_so_far(head)) << length;
    EXPECT_TRUE(valid_utf8(head.substr(0, head.size() - incomplete_tail(head)))) << length;
    EXPECT_EQ(incomplete_tail(head) == 0, valid_utf8(head)) << length;
  }
  EXPECT_FALSE(valid_utf8_so_far("a\x80"));
  EXPECT_FALSE(valid_utf8_so_far("a\xFF"));
  EXPECT_FALSE(valid_utf8_so_far("\xE0\x80"));  // no character begins so
  EXPECT_FALSE(valid_utf8_so_far("\xF4\x90"));
  EXPECT_TRUE(valid_utf8_so_far("\xE0\xA0"));
}

TEST(Cut, EndsAtSegmentsAndWords) {
  const auto cut = [](std::string_view text, std::size_t keep, Index words, bool whole) {
    return std::string(text.substr(0, cut_to_words(text, keep, words, whole)));
  };
  // The last word may be cut in two, so the last whole segment is taken.
  EXPECT_EQ(cut("a cat, oil painting, soft lig", 5, 0, false), "a cat, oil painting");
  // The last segment is most of it: the last word alone goes.
  EXPECT_EQ(cut("a cat, soft light of a very early mor", 5, 0, false), "a cat, soft light of a very early");
  EXPECT_EQ(cut("a cat in a red castle, sun", 5, 4, true), "a cat in a red castle");
  EXPECT_EQ(cut("a cat in a red castle of stone", 5, 3, true), "a cat in a red");
  EXPECT_EQ(cut("a cat at f/1.8 in red and more sto", 5, 0, false), "a cat at f/1.8 in red and more");
  // The user's own separators stay.
  EXPECT_EQ(cut("a cat, - ", 9, 0, true), "a cat, - ");
  EXPECT_EQ(cut("a cat, - ,", 9, 0, true), "a cat, - ");
  EXPECT_EQ(cut("", 0, 3, false), "");
  EXPECT_EQ(cut("猫猫猫", 3, 0, false), "猫猫猫");
}

}  // namespace
}  // namespace unfurl::train
