#include "train/generate/verbatim.h"

#include <gtest/gtest.h>

#include "tests/support/random.h"
#include "train/corpus/text.h"

namespace unfurl::train {
namespace {

TEST(Verbatim, LiftsWhatIsNotForTheModel) {
  const auto cleaned = [](std::string_view query) { return lift(query).cleaned; };
  EXPECT_EQ(cleaned("a cat <lora:fur_v2:0.8>"), "a cat");
  EXPECT_EQ(cleaned("<lora:x:1>, a cat"), "a cat");
  EXPECT_EQ(cleaned("a (red:1.3) cat"), "a red cat");
  EXPECT_EQ(cleaned("a ((red)) [cat]"), "a red cat");
  EXPECT_EQ(cleaned("a ((red cat:1.1) in (fog:0.9):1.4)"), "a red cat in fog");
  EXPECT_EQ(cleaned("(embedding:fur:1.2), cat, embedding:paws BREAK sun"), "cat, sun");
  EXPECT_EQ(cleaned("a {red|blue} cat"), "a red cat");
  EXPECT_EQ(cleaned("a {2$$red|blue} {0.5::cat|dog}"), "a red cat");
  EXPECT_EQ(cleaned("a {{red|blue} fox|cat}"), "a red fox");
  EXPECT_EQ(cleaned("[cat:dog:0.5] [sun|fog] [:sky:10]"), "cat sun sky");
  EXPECT_EQ(cleaned("a __hair-color__ cat"), "a hair color cat");
  EXPECT_EQ(cleaned("zelda \\(botw\\), sun"), "zelda (botw), sun");
  EXPECT_EQ(cleaned("(note: a cat)"), "note: a cat");
  // Text like any other.
  for (const char* text : {"a cat", "a <3 cat", "a < b: c >", "(a cat", "a cat)", "a (cat]", "BREAKFAST", "cat: dog",
                           "snake_case __init", "i:1.3", "a \\ b"}) {
    EXPECT_EQ(cleaned(text), text);
    EXPECT_TRUE(lift(text).items.empty()) << text;
  }
  EXPECT_EQ(cleaned("<lora:x:1>"), "");
  EXPECT_EQ(cleaned("<lora:x:1> BREAK ,"), "");
}

TEST(Verbatim, ContinuesBehindTheQuery) {
  const auto joined = [](std::string_view query, std::string_view rest) {
    return continue_verbatim(lift(query), rest);
  };
  EXPECT_EQ(joined("a cat", ", oil"), "a cat, oil");
  EXPECT_EQ(joined("a cat ", " oil"), "a cat oil");
  EXPECT_EQ(joined("a cat,", " oil"), "a cat, oil");
  EXPECT_EQ(joined("a cat,<lora:x:1>", "oil"), "a cat,<lora:x:1> oil");
  EXPECT_EQ(joined("(a cat:1.2)", ", oil"), "(a cat:1.2), oil");
  EXPECT_EQ(joined("a cat", ""), "a cat");
}

TEST(Verbatim, RestoresItemsInFreelyWrittenText) {
  const auto restored = [](std::string_view query, std::string_view text) { return restore_items(lift(query), text); };
  EXPECT_EQ(restored("a (red:1.3) cat <lora:x:1>", " a cat in Red fog"), "a cat in (red:1.3) fog <lora:x:1>");
  EXPECT_EQ(restored("a (red:1.3) cat", "a cat, redder"), "a cat, redder, (red:1.3)");
  EXPECT_EQ(restored("{a|b} {a|b}", "a and a"), "{a|b} and {a|b}");
  EXPECT_EQ(restored("<lora:x:1> a cat", ""), "<lora:x:1>");
  EXPECT_EQ(restored("a cat", " a cat, oil"), "a cat, oil");
}

// Odd strings out of the syntax's own characters: whatever they are, the query opens the answer byte for byte, all
// items are parts of it in order, and freely written text gets every item.
TEST(Verbatim, KeepsAnyQueryByteForByte) {
  const std::vector<std::string> parts = {
      "(",   ")",          "[",          "]",   "{",  "}",   "<",  ">",     ":",          "|",           "\\",
      "1.3", "<lora:a:1>", "a",          "cat", " ",  "  ",  ",",  "BREAK", "embedding:", "embedding:x", "__",
      "é",   "猫",         "\U0001F600", "$$",  "::", "2$$", "\n", "\t",    "-0.5",       "\xC2\xA0",    "(a:1.2)"};
  for (std::uint64_t seed = 0; seed < 3000; ++seed) {
    std::string query;
    for (const std::int32_t part :
         tests::integers(1 + static_cast<Index>(seed % 14), static_cast<std::int32_t>(parts.size()), seed)) {
      query += parts[static_cast<std::size_t>(part)];
    }
    SCOPED_TRACE(query);
    const LiftedQuery lifted = lift(query);
    ASSERT_EQ(lifted.original, query);
    ASSERT_TRUE(valid_utf8(lifted.cleaned));
    ASSERT_EQ(lifted.cleaned.find('\n'), std::string::npos);
    for (const char* rest : {", oil", " oil", "oil", "。", ""}) {
      const std::string text = continue_verbatim(lifted, rest);
      ASSERT_EQ(text.substr(0, query.size()), query);
      ASSERT_TRUE(text.ends_with(trim(rest)));
    }
    std::size_t at = 0;
    for (const LiftedItem& item : lifted.items) {
      at = query.find(item.bytes, at);
      ASSERT_NE(at, std::string::npos) << item.bytes;
      at += item.bytes.size();
    }
    const std::string free = restore_items(lifted, "a cat and some oil");
    for (const LiftedItem& item : lifted.items) ASSERT_NE(free.find(item.bytes), std::string::npos) << item.bytes;
  }
}

TEST(Verbatim, SurvivesDeepBrackets) {
  for (const char* bracket : {"(", "[", "{", "(a:"}) {
    std::string query;
    for (int i = 0; i < 2000; ++i) query += bracket;
    EXPECT_EQ(lift(query).original, query);
  }
  const std::string nested = std::string(3000, '(') + "cat" + std::string(3000, ')');
  const LiftedQuery lifted = lift(nested);
  ASSERT_EQ(lifted.items.size(), 1u);
  EXPECT_EQ(lifted.items[0].bytes, nested);
}

}  // namespace
}  // namespace unfurl::train
