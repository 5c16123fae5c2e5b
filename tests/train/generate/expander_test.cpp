#include "train/generate/expander.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <set>

#include "core/error.h"
#include "tests/support/random.h"
#include "tests/train/generate/fake_model.h"
#include "train/corpus/segments.h"
#include "train/corpus/text.h"
#include "train/generate/characters.h"
#include "train/generate/verbatim.h"

namespace unfurl::train {
namespace {

using tests::FakeCodec;
using tests::FakeModel;

std::vector<std::string> texts(const Expansions& expansions) {
  std::vector<std::string> out;
  for (const Expansion& item : expansions.items) out.push_back(item.text);
  return out;
}

class ExpanderTest : public testing::Test {
 protected:
  Expansions expand(const std::string& query, const ExpandSettings& given = {}) {
    Expander expander(model, codec);
    return expander.expand(query, given);
  }
  /// A rule for the tokens behind <sep> and the opening.
  void rule(FakeModel::Rule made) { model = FakeModel(codec.size(), context, std::move(made)); }

  FakeCodec codec{tests::fake_words()};
  Index context = 64;
  FakeModel model{codec.size(), context, tests::fake_rule(codec)};
  ExpandSettings settings;
};

TEST_F(ExpanderTest, SameSeedSameAnswerOtherSeedOther) {
  settings.seed = 7;
  const Expansions first = expand("a cat", settings), second = expand("a cat", settings);
  ASSERT_EQ(first.items.size(), 4u);
  EXPECT_EQ(texts(first), texts(second));
  EXPECT_TRUE(first.warnings.empty());
  settings.seed = 8;
  EXPECT_NE(texts(first), texts(expand("a cat", settings)));
  std::set<std::string> different;
  for (const std::string& text : texts(first)) {
    EXPECT_TRUE(text.starts_with("a cat")) << text;
    EXPECT_GT(text.size(), 5u);
    different.insert(text);
  }
  EXPECT_EQ(different.size(), 4u);
  for (const Expansion& item : first.items) {
    EXPECT_TRUE(item.ended);
    EXPECT_EQ(item.stop, Stop::end);
    EXPECT_GT(item.tokens, 1);
    EXPECT_LT(item.log_probability, 0);
  }
}

TEST_F(ExpanderTest, SampleDoesNotDependOnHowManyAreDrawn) {
  settings.bans = Bans({"greg rutkowski", "art", "sun"});  // rows go back at different times
  for (std::uint64_t seed = 0; seed < 10; ++seed) {
    settings.seed = seed;
    settings.count = 20;
    const std::vector<std::string> many = texts(expand("a cat", settings));
    ASSERT_EQ(many.size(), 20u);
    for (const Index count : {1, 2, 7, 8, 9}) {
      settings.count = count;
      EXPECT_EQ(texts(expand("a cat", settings)), std::vector<std::string>(many.begin(), many.begin() + count));
    }
  }
}

TEST_F(ExpanderTest, SharesOnePrefillAndForcesTheOpening) {
  expand("a red cat");
  EXPECT_EQ(model.prefills, 1);
  std::vector<std::int32_t> expected = codec.encode("a red cat");
  expected.push_back(FakeCodec::kSep);
  EXPECT_EQ(model.prefix_length(), static_cast<Index>(expected.size()));
  for (const std::int32_t piece : codec.encode("a red cat")) expected.push_back(piece);
  EXPECT_EQ(model.shared(), expected);

  settings.prefix = "FLV";
  settings.keep = KeepMode::free;
  expand("a (red:1.2) cat, <lora:x:1>", settings);
  expected = {FakeCodec::kFlv};
  for (const std::int32_t piece : codec.encode("a red cat")) expected.push_back(piece);
  expected.push_back(FakeCodec::kSep);
  EXPECT_EQ(model.shared(), expected);
}

TEST_F(ExpanderTest, ReplacesDuplicates) {
  // Three prompts are possible, one of them far more often than the others.
  rule([&](const std::vector<std::int32_t>& tokens) -> FakeModel::Weights {
    const std::string last = codec.bytes(tokens.back());
    if (last == " cat") return {{codec.id(" oil"), 10}, {codec.id(" fog"), 3}, {codec.id(" sky"), 2}};
    return {{FakeCodec::kEos, 1}};
  });
  settings.sampling = {};
  settings.count = 3;
  bool replaced = false;
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    settings.seed = seed;
    const Expansions found = expand("cat", settings);
    const std::vector<std::string> all = texts(found);
    EXPECT_EQ(std::set<std::string>(all.begin(), all.end()).size(), all.size());
    for (const Expansion& item : found.items) replaced = replaced || item.attempt > 0;
    // What was given up is said.
    EXPECT_EQ(all.size() < 3, !found.warnings.empty());
  }
  EXPECT_TRUE(replaced);
  settings.count = 5;
  const Expansions found = expand("cat", settings);
  EXPECT_LE(found.items.size(), 3u);
  ASSERT_EQ(found.warnings.size(), 1u);
  EXPECT_NE(found.warnings[0].find("instead of 5"), std::string::npos) << found.warnings[0];
}

TEST_F(ExpanderTest, DrawsAgainWhatIsEmpty) {
  rule([&](const std::vector<std::int32_t>& tokens) -> FakeModel::Weights {
    if (codec.bytes(tokens.back()) == " cat") return {{FakeCodec::kEos, 1000}, {codec.id(" fog"), 1}};
    return {{FakeCodec::kEos, 1}};
  });
  settings.count = 1;
  EXPECT_EQ(texts(expand("cat", settings)), std::vector<std::string>{"cat fog"});

  rule([](const std::vector<std::int32_t>&) -> FakeModel::Weights { return {{FakeCodec::kEos, 1}}; });
  const Expansions nothing = expand("cat", settings);
  EXPECT_EQ(texts(nothing), std::vector<std::string>{"cat"});
  EXPECT_EQ(nothing.items[0].stop, Stop::not_expanded);
  ASSERT_EQ(nothing.warnings.size(), 1u);
}

TEST_F(ExpanderTest, NeverGeneratesWhatIsBanned) {
  settings.count = 64;
  settings.sampling = {};
  // Without bans the phrases do come up, across pieces.
  std::string all;
  for (const std::string& text : texts(expand("a cat", settings))) all += text + "\n";
  EXPECT_NE(all.find("greg rutkowski"), std::string::npos);
  EXPECT_NE(all.find(" artist"), std::string::npos);

  settings.count = 16;
  settings.bans = Bans({"GREG  Rutkowski", "art", "oil painting", "cat sun"});
  bool artist = false, back = false;
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    settings.seed = seed;
    model.truncates = 0;
    for (const Expansion& item : expand("a cat", settings).items) {
      EXPECT_FALSE(settings.bans.find(item.text, 0, true)) << item.text;
      artist = artist || item.text.find(" artist") != std::string::npos;
    }
    back = back || model.truncates > 0;
  }
  EXPECT_TRUE(artist) << "\"art\" bans no longer words";
  EXPECT_TRUE(back);
}

TEST_F(ExpanderTest, GoesBackToWhereThePhraseBegan) {
  // " oil" is always followed by " painting": a row that was sent back and still holds " oil" is found out.
  rule([&](const std::vector<std::int32_t>& tokens) -> FakeModel::Weights {
    for (std::size_t i = 0; i + 1 < tokens.size(); ++i) {
      require(tokens[i] != codec.id(" oil") || tokens[i + 1] == codec.id(" painting"), "an abandoned token was kept");
    }
    const std::string last = codec.bytes(tokens.back());
    if (last == " cat" || last == ",") {
      return {{codec.id(" oil"), 4},
              {codec.id(" sky"), 1},
              {codec.id(" fog"), 1},
              {codec.id(" sun"), 1},
              {codec.id(" dawn"), 1}};
    }
    if (last == " oil") return {{codec.id(" painting"), 1}};
    return {{codec.id(","), 1}, {FakeCodec::kEos, 1}};
  });
  settings.sampling = {};
  settings.count = 1;
  settings.bans = Bans({"oil painting"});
  std::map<std::string, int> first;
  for (settings.seed = 0; settings.seed < 100; ++settings.seed) {
    model.truncates = 0;
    const std::string text = texts(expand("cat", settings)).at(0);
    EXPECT_EQ(text.find("oil"), std::string::npos);
    if (model.truncates > 0 && text.find(',') == std::string::npos) ++first[text];
  }
  // Drawn anew, not with the number that gave " oil": each of the others comes up.
  EXPECT_EQ(first.size(), 4u);
}

TEST_F(ExpanderTest, BansDoNotTouchTheQuery) {
  settings.bans = Bans({"oil painting", "rutkowski"});
  Expansions found = expand("an Oil Painting by greg", settings);
  ASSERT_EQ(found.items.size(), 4u);
  ASSERT_EQ(found.warnings.size(), 1u);
  for (const std::string& text : texts(found)) {
    EXPECT_TRUE(text.starts_with("an Oil Painting by greg")) << text;
    EXPECT_FALSE(settings.bans.find(text, 23, true)) << text;
  }
  // A phrase that the query begins is not completed.
  settings.bans = Bans({"greg rutkowski"});
  found = expand("by greg", settings);
  for (const std::string& text : texts(found)) EXPECT_FALSE(settings.bans.find(text, 0, true)) << text;
}

TEST_F(ExpanderTest, CutsWhereOnlyBannedWordsMayFollow) {
  rule([&](const std::vector<std::int32_t>& tokens) -> FakeModel::Weights {
    const std::string last = codec.bytes(tokens.back());
    if (last == " cat") return {{codec.id(","), 1}};
    if (last == ",") return {{codec.id(" soft"), 1}};
    if (last == " soft") return {{codec.id(" sun"), 1}};
    return {{FakeCodec::kEos, 1}};
  });
  settings.bans = Bans({"sun"});
  settings.count = 1;
  const Expansions found = expand("cat", settings);
  EXPECT_EQ(texts(found), std::vector<std::string>{"cat, soft"});
  EXPECT_FALSE(found.items[0].ended);
  EXPECT_EQ(found.items[0].stop, Stop::banned);
}

TEST_F(ExpanderTest, KeepsTheQueryByteForByte) {
  const std::vector<std::string> parts = {"cat",       " ",   "(",     ")", "[",          "]",  "{a|b}", "<lora:x:1>",
                                          "(red:1.3)", ",",   "BREAK", "é", "猫",         "\n", "  ",    "{",
                                          "}",         "\\(", "a",     ":", "\U0001F600", "<",  "|"};
  settings.count = 2;
  Expander expander(model, codec);
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    std::string query;
    for (const std::int32_t part :
         tests::integers(1 + static_cast<Index>(seed % 9), static_cast<std::int32_t>(parts.size()), seed)) {
      query += parts[static_cast<std::size_t>(part)];
    }
    SCOPED_TRACE(query);
    settings.seed = seed;
    if (folded(query).empty()) {
      EXPECT_THROW(expander.expand(query, settings), UserError);
      continue;
    }
    const Expansions found = expander.expand(query, settings);
    ASSERT_FALSE(found.items.empty());
    for (const Expansion& item : found.items) {
      ASSERT_EQ(item.text.substr(0, query.size()), query);
      ASSERT_TRUE(valid_utf8(item.text));
      ASSERT_TRUE(item.stop != Stop::not_expanded || found.warnings.size() == 1);
    }
  }
  const Expansions tags = expander.expand("<lora:x:1> BREAK", settings);
  EXPECT_EQ(texts(tags), std::vector<std::string>{"<lora:x:1> BREAK"});
  EXPECT_EQ(tags.warnings.size(), 1u);
}

TEST_F(ExpanderTest, DoesNotMakeTheLastWordLonger) {
  rule([&](const std::vector<std::int32_t>& tokens) -> FakeModel::Weights {
    if (codec.bytes(tokens.back()) == " art")
      return {{codec.id("ist"), 100}, {codec.id("s"), 100}, {codec.id(" sky"), 1}};
    return {{FakeCodec::kEos, 1}};
  });
  settings.count = 1;
  EXPECT_EQ(texts(expand("art", settings)), std::vector<std::string>{"art sky"});
}

TEST_F(ExpanderTest, SaysNothingTwice) {
  rule([&](const std::vector<std::int32_t>& tokens) -> FakeModel::Weights {
    const std::string last = codec.bytes(tokens.back());
    if (last == ",") return {{codec.id(" oil"), 3}, {codec.id(" fog"), 2}, {codec.id(" cat"), 2}, {codec.id(","), 1}};
    if (last.empty()) return {{codec.id(" oil"), 1}, {codec.id(" fog"), 1}};
    return {{codec.id(","), 8}, {FakeCodec::kEos, 1}};
  });
  settings.sampling = {};
  settings.count = 4;
  settings.bans = Bans({"oil, fog"});  // nor may what is left out bring banned words together
  const auto single = [](const std::string& text) {
    std::set<std::string> segments;
    for (const std::string_view segment : split_segments(text)) {
      EXPECT_TRUE(segments.insert(folded(segment)).second) << text;
    }
    EXPECT_EQ(text.find(",,"), std::string::npos) << text;
    EXPECT_FALSE(text.ends_with(",")) << text;
  };
  for (settings.seed = 0; settings.seed < 20; ++settings.seed) {
    for (const char* const query : {"Cat", "red, (cat:1.2)", "Cat, <lora:oil,oil:1>", "sun,, sun"}) {
      for (const Expansion& item : expand(query, settings).items) {
        ASSERT_TRUE(item.text.starts_with(query)) << item.text;
        const std::string added = item.text.substr(std::string_view(query).size());
        const LiftedQuery lifted = lift(query);
        if (query != std::string_view("sun,, sun")) single(folded(lifted.cleaned) + added);
        EXPECT_FALSE(settings.bans.find(item.text, 0, true)) << item.text;
      }
    }
    settings.keep = KeepMode::free;
    for (const Expansion& item : expand("cat", settings).items) single(item.text);
    settings.keep = KeepMode::verbatim;
  }
}

TEST_F(ExpanderTest, RestoresItemsInFreeText) {
  settings.keep = KeepMode::free;
  for (const std::string& text : texts(expand("(red:1.3) <lora:x:1> embedding:y", settings))) {
    EXPECT_NE(text.find("(red:1.3)"), std::string::npos) << text;
    EXPECT_NE(text.find("<lora:x:1>"), std::string::npos) << text;
    EXPECT_NE(text.find("embedding:y"), std::string::npos) << text;
    EXPECT_FALSE(text.starts_with(" "));
  }
}

TEST_F(ExpanderTest, StopsAtMaxWords) {
  settings.count = 8;
  for (const Index words : {3, 4, 5, 9}) {
    settings.max_words = words;
    for (const Expansion& item : expand("a cat <lora:x:1>", settings).items) {
      const std::string added = item.text.substr(16);
      EXPECT_LE(count_words(added) + 2, words) << item.text;
      EXPECT_GE(count_words(added), 1) << item.text;
      EXPECT_FALSE(item.text.ends_with(",") || item.text.ends_with(" ")) << item.text;
      EXPECT_EQ(item.ended, item.stop == Stop::end);
      EXPECT_TRUE(item.ended || item.stop == Stop::max_words);
    }
  }
  settings.max_words = 2;
  const Expansions full = expand("a cat", settings);
  EXPECT_EQ(texts(full), std::vector<std::string>{"a cat"});
  EXPECT_EQ(full.warnings.size(), 1u);
}

TEST_F(ExpanderTest, StopsAtMaxTokensAndAtTheContext) {
  rule([&](const std::vector<std::int32_t>&) -> FakeModel::Weights {
    return {{codec.id(" sun"), 1}, {codec.id(" fog"), 1}};
  });
  settings.count = 3;
  settings.max_tokens = 5;
  for (const Expansion& item : expand("a cat", settings).items) {
    EXPECT_EQ(item.tokens, 5);
    EXPECT_EQ(item.stop, Stop::max_tokens);
  }
  settings.max_tokens = 0;
  const Index shared = 5;  // a cat <sep> a cat
  for (const Expansion& item : expand("a cat", settings).items) {
    EXPECT_EQ(item.tokens, context - shared);
    EXPECT_EQ(item.stop, Stop::context);
  }
  std::string longest;
  for (int i = 0; i < 40; ++i) longest += " cat";
  const Expansions found = expand(longest, settings);
  EXPECT_EQ(texts(found), std::vector<std::string>{longest});
  ASSERT_EQ(found.warnings.size(), 1u);
  EXPECT_NE(found.warnings[0].find("context"), std::string::npos);
}

TEST_F(ExpanderTest, WritesOnlyValidUtf8) {
  // Bytes of all kinds, and "é" in two byte pieces that ends may cut.
  rule([&](const std::vector<std::int32_t>&) {
    FakeModel::Weights weights;
    for (int byte = 0; byte < 256; ++byte) weights[FakeCodec::kBytes + byte] = 1;
    weights[FakeCodec::kEos] = 1;
    weights[FakeCodec::kSep] = 100;
    weights[FakeCodec::kFlv] = 100;
    return weights;
  });
  settings.sampling = {};
  settings.count = 40;
  bool wide = false;
  for (const Index limit : {1, 2, 3, 20}) {
    settings.max_tokens = limit;
    for (const std::string& text : texts(expand("a cat", settings))) {
      ASSERT_TRUE(valid_utf8(text));
      for (const char c : text) {
        ASSERT_TRUE(static_cast<unsigned char>(c) >= 0x20 && c != 0x7F);
        wide = wide || static_cast<unsigned char>(c) >= 0xE0;
      }
    }
  }
  EXPECT_TRUE(wide);
}

TEST_F(ExpanderTest, NamesMistakes) {
  const auto mistake = [&](auto change, const std::string& query = "a cat") {
    ExpandSettings wrong;
    change(wrong);
    try {
      expand(query, wrong);
    } catch (const UserError& error) {
      return std::string(error.what());
    }
    return std::string("no error");
  };
  EXPECT_EQ(mistake([](auto& s) { s.count = 0; }), "n must be 1 to 256, not 0");
  EXPECT_EQ(mistake([](auto& s) { s.prefix = "FLVV"; }),
            "there is no prefix \"FLVV\"; there are FLV, MSTP; did you mean \"FLV\"?");
  EXPECT_NE(mistake([](auto& s) { s.sampling.top_p = 0; }).find("top_p"), std::string::npos);
  EXPECT_NE(mistake([](auto& s) { s.sampling.temperature = std::nanf(""); }).find("temperature"), std::string::npos);
  EXPECT_NE(mistake([](auto& s) { s.max_words = -1; }).find("max_words"), std::string::npos);
  const auto nothing = [](auto&) {};
  EXPECT_EQ(mistake(nothing, ""), "the query is empty");
  EXPECT_EQ(mistake(nothing, " \n\t"), "the query is empty");
  EXPECT_EQ(mistake(nothing, "a \xFF cat"), "the query is not valid UTF-8");
  EXPECT_THROW(parse_keep("all"), UserError);
}

TEST_F(ExpanderTest, ReturnsTheQueryWhereTheModelFails) {
  for (const float bad : {std::nanf(""), std::numeric_limits<float>::infinity()}) {
    rule([&](const std::vector<std::int32_t>&) -> FakeModel::Weights {
      return {{codec.id(" sun"), bad}, {codec.id(" fog"), 1}};
    });
    EXPECT_THROW(expand("a cat"), Error);
    Expander expander(model, codec);
    const Expansions found = expand_or_return(expander, "a cat", settings);
    EXPECT_EQ(texts(found), std::vector<std::string>{"a cat"});
    ASSERT_EQ(found.warnings.size(), 1u);
  }
  EXPECT_THROW(Expander(*std::make_unique<FakeModel>(3, 64, tests::fake_rule(codec)), codec), Error);
}

TEST_F(ExpanderTest, PaddedVocabulariesAreFine) {
  FakeModel padded(codec.size() + 7, context, [&](const std::vector<std::int32_t>& tokens) {
    FakeModel::Weights weights = tests::fake_rule(codec)(tokens);
    weights[static_cast<std::int32_t>(codec.size()) + 3] = 100;
    return weights;
  });
  Expander expander(padded, codec);
  EXPECT_EQ(texts(expander.expand("a cat", settings)).size(), 4u);
}

}  // namespace
}  // namespace unfurl::train
