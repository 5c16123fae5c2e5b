#include "train/corpus/pair.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "tests/support/temporary_folder.h"
#include "train/corpus/prefix.h"
#include "train/corpus/text.h"

namespace unfurl::tests {
namespace {

using namespace unfurl::train;

std::string why_not(std::string_view line) {
  try {
    parse_pair(line);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(Pair, RoundTripsThroughAFile) {
  const TemporaryFolder folder;
  const std::vector<Pair> pairs = {
      {"a tower", "a tower, oil painting", "FLV", "t1", "concrete", {"tower"}, {"oil painting"}},
      {"a fox", "a fox, bokeh", "", "", "", {}, {}, "generated", true},
      {"\"quoted\" \\ \t \u00e9\u4e2d\U0001F409", "a dragon\nof two lines", "", "", "", {}, {}},
  };
  PairWriter writer(folder / "pairs.jsonl");
  for (const Pair& pair : pairs) writer.write(pair);
  EXPECT_FALSE(std::filesystem::exists(folder / "pairs.jsonl")) << "nothing half-written";
  writer.commit();
  EXPECT_EQ(writer.count(), 3u);
  EXPECT_EQ(read_pairs(folder / "pairs.jsonl"), pairs);
  const Json first = to_json(pairs[0]);
  EXPECT_EQ(first.find("simulated"), nullptr) << "only where it is";
  EXPECT_EQ(to_json(pairs[1]).dump(),
            R"({"query":"a fox","prompt":"a fox, bokeh","source":"generated","simulated":true})");
  EXPECT_FALSE(parse_pair(R"({"query":"a","prompt":"b","simulated":false})").simulated);
}

TEST(Pair, IgnoresOtherKeysAndNulls) {
  const Pair pair =
      parse_pair(R"({"query":"a","prompt":"a, b","prefix":null,"id":17,"score":{"x":[1]},"expander":"x"})");
  EXPECT_EQ(pair, (Pair{"a", "a, b", "", "17", "", {}, {}}));
}

TEST(Pair, SaysWhyALineIsBad) {
  EXPECT_EQ(why_not(""), "empty line");
  EXPECT_EQ(why_not(" \t\r"), "empty line");
  EXPECT_TRUE(why_not("{\"query\": \"a\"").starts_with("not JSON (")) << why_not("{\"query\": \"a\"");
  EXPECT_TRUE(why_not("query,prompt").starts_with("not JSON (column 1: ")) << why_not("query,prompt");
  EXPECT_EQ(why_not("{\"query\": x}").find("line"), std::string::npos) << "the file's line is the reader's to say";
  EXPECT_EQ(why_not("[1, 2]"), "not an object, but an array");
  EXPECT_EQ(why_not("\"text\""), "not an object, but a string");
  EXPECT_EQ(why_not(R"({"prompt":"a"})"), "query is missing");
  EXPECT_EQ(why_not(R"({"query":"a"})"), "prompt is missing");
  EXPECT_EQ(why_not(R"({"query":"","prompt":"a"})"), "query is empty");
  EXPECT_EQ(why_not(R"({"query":"a","prompt":" \n "})"), "prompt is empty");
  EXPECT_EQ(why_not(R"({"query":3,"prompt":"a"})"), "query must be a string, got a number");
  EXPECT_EQ(why_not(R"({"query":"a","prompt":null})"), "prompt must be a string, got null");
  EXPECT_EQ(why_not(R"({"query":"a","prompt":"b","type":[]})"), "type must be a string, got an array");
  EXPECT_EQ(why_not(R"({"query":"a","prompt":"b","flavors":"c"})"),
            "flavors must be an array of strings, got a string");
  EXPECT_EQ(why_not(R"({"query":"a","prompt":"b","content":[1]})"),
            "content must be an array of strings, got a number in it");
  EXPECT_EQ(why_not("{\"query\":\"\xff\",\"prompt\":\"b\"}"), "invalid UTF-8");
  EXPECT_TRUE(why_not(R"({"query":"\ud800","prompt":"b"})").starts_with("not JSON (")) << "half a surrogate pair";
  EXPECT_TRUE(why_not(R"({"query":"a","prompt":"b","prefix":"FVL"})").find("did you mean \"FLV\"") !=
              std::string::npos);
  EXPECT_TRUE(why_not(std::string(100000, '[')).starts_with("not JSON ("));
  EXPECT_LT(why_not("{\"query\": \"" + std::string(100000, 'x')).size(), 200u);
}

TEST(PairReader, NamesBadLinesAndGoesOn) {
  const TemporaryFolder folder;
  std::string text;
  for (int i = 0; i < 300; ++i) text += i == 7 ? "\n" : i == 9 ? "{}\n" : "{\"query\":\"a\",\"prompt\":\"b\"}\r\n";
  text.pop_back();  // no line end after the last line
  write_file(folder / "pairs.jsonl", text);
  PairReader reader(folder / "pairs.jsonl");
  EXPECT_EQ(reader.lines(), 300u);
  std::size_t good = 0;
  for (Pair pair; reader.next(pair);) ++good;
  EXPECT_EQ(good, 298u);
  EXPECT_EQ(reader.bad().count(), 2u);
  ASSERT_EQ(reader.bad().named().size(), 2u);
  EXPECT_EQ(reader.bad().named()[0], (folder / "pairs.jsonl").string() + ":8: empty line");
  EXPECT_EQ(reader.bad().named()[1], (folder / "pairs.jsonl").string() + ":10: query is missing");
  Pair pair;
  EXPECT_FALSE(reader.next(pair)) << "the end stays the end";
}

TEST(PairReader, EndsWhenTooManyLinesAreBad) {
  const TemporaryFolder folder;
  std::string text;
  for (int i = 0; i < 100; ++i) text += i % 10 == 5 ? "oops\n" : "{\"query\":\"a\",\"prompt\":\"b\"}\n";
  write_file(folder / "pairs.jsonl", text);
  try {
    read_pairs(folder / "pairs.jsonl", {.max_bad_share = 0.05, .named = 2});
    FAIL() << "no error";
  } catch (const UserError& error) {
    const std::string what = error.what(), path = (folder / "pairs.jsonl").string();
    EXPECT_TRUE(what.starts_with(path + ": 10 of 100 lines are not pairs, more than the 5 % allowed: ")) << what;
    EXPECT_NE(what.find(path + ":6: not JSON"), std::string::npos) << what;
    EXPECT_NE(what.find(path + ":16: not JSON"), std::string::npos) << what;
    EXPECT_EQ(what.find(":26:"), std::string::npos) << what;
    EXPECT_EQ(what.find('\n'), std::string::npos) << what;
  }
  EXPECT_EQ(read_pairs(folder / "pairs.jsonl", {.max_bad_share = 0.1}).size(), 90u) << "the limit itself is allowed";
}

TEST(PairReader, RefusesAnEmptyOrMissingFile) {
  const TemporaryFolder folder;
  write_file(folder / "empty.jsonl", "");
  write_file(folder / "blank.jsonl", "\n \n");
  EXPECT_THROW(PairReader(folder / "empty.jsonl"), UserError);
  EXPECT_THROW(PairReader(folder / "blank.jsonl"), UserError);
  EXPECT_THROW(PairReader(folder / "none.jsonl"), UserError);
  EXPECT_THROW(PairReader{folder.path()}, UserError);
}

TEST(Prefix, KnowsTheEight) {
  for (std::size_t i = 0; i < kPrefixes.size(); ++i) EXPECT_EQ(require_prefix(kPrefixes[i].name), i);
  EXPECT_TRUE(is_prefix("MSTP"));
  EXPECT_FALSE(is_prefix("mstp"));
  EXPECT_FALSE(is_prefix(""));
  try {
    require_prefix("abst");
    FAIL() << "no error";
  } catch (const UserError& error) {
    const std::string what = error.what();
    EXPECT_NE(what.find("did you mean \"ABST\"?"), std::string::npos) << what;
    EXPECT_NE(what.find("ABST, DTL, GRD, SPCT, FLV, HAST, RFT, MSTP"), std::string::npos) << what;
  }
}

TEST(Text, JudgesUtf8) {
  EXPECT_TRUE(valid_utf8("plain \u00e9 \u4e2d \U0001F409 \U0010FFFF"));
  for (const char* bad : {"\x80", "\xc3", "\xc0\xaf", "\xe0\x80\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80",
                          "\xf5\x80\x80\x80", "\xf0\x80\x80\x80", "a\xe4\xb8", "\xe4\xb8z"}) {
    EXPECT_FALSE(valid_utf8(bad)) << bad;
  }
}

TEST(Text, SplitsAndJoins) {
  EXPECT_EQ(trim(" \t a b \r\n"), "a b");
  EXPECT_EQ(trim(" \n"), "");
  const auto words = split_words("  two\twords \n");
  EXPECT_EQ(words, (std::vector<std::string_view>{"two", "words"}));
  EXPECT_EQ(join(words), "two words");
  EXPECT_TRUE(split_words(" ").empty());
  EXPECT_EQ(lower("\u00c9\u00c0 AZ"), "\u00c9\u00c0 az") << "letters outside of ASCII stay";
}

}  // namespace
}  // namespace unfurl::tests
