#include "train/data/tokenizer.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <set>

#include "core/error.h"
#include "core/files.h"
#include "tests/train/data/fixture.h"
#include "train/corpus/prefix.h"
#include "train/corpus/text.h"

namespace unfurl::tests {
namespace {

using namespace unfurl::train;
using Model = TokenizerConfig::Model;

/// Texts that a careless tokenizer changes.
std::vector<std::string> hard_texts() {
  std::vector<std::string> texts = {
      "",
      " ",
      "  ",
      "a cat",
      " a cat",
      "a  cat ,\t and\n\r\n a   dog ",
      "\n",
      "\t\t",
      std::string("nul \0 inside", 12),
      "\u2581",
      "\u2581a\u2581 \u2581\u2581b",
      "a\u2581",
      "\u2585 block \u2047",
      "\uFF21\uFF22 full width, \u00BD half, \uFB01 ligature",
      "e\u0301 and \u00E9",
      "\uFEFFbyte order mark \uFFFD \uFFFE \u00A0 \u3000 \u200B",
      "\U0001F409\U0001F1EB\U0001F1F7 \U0010FFFF",
      "12345 1 9 5 0 8k",
      "<FLV> a cat <sep> <eos></s><s><unk><pad>[R][S][X]<0x41>",
      std::string(5000, 'x'),
      "\x01\x02\x7F",
  };
  std::string every;
  for (int c = 1; c < 128; ++c) every += static_cast<char>(c);
  texts.push_back(every);
  return texts;
}

/// Random text of whole characters, many of them odd.
std::string random_text(std::uint64_t seed) {
  std::string text;
  const char* odd[] = {" ",          "  ", "\u2581", "\n",  "a", "the", "\u00E9",
                       "\U0001F409", ",",  "<",      "FLV", ">", "0",   "\u4E2D"};
  for (std::uint64_t i = 0; i < 60; ++i) text += odd[philox({seed, 1, 0}, i)[0] % std::size(odd)];
  return text;
}

TEST(Tokenizer, LosesNothing) {
  for (const Model model : {Model::bpe, Model::unigram}) {
    const auto tokenizer = some_tokenizer(model);
    EXPECT_EQ(tokenizer->model(), model);
    std::vector<std::string> texts = hard_texts();
    for (std::uint64_t seed = 0; seed < 50; ++seed) texts.push_back(random_text(seed));
    for (const std::string& text : texts) {
      EXPECT_EQ(tokenizer->decode(tokenizer->encode(text)), text);
      EXPECT_EQ(tokenizer->decode(tokenizer->encode_sampled(text, 0.3, {7, 8, 9}, 10)), text);
    }
  }
}

TEST(Tokenizer, TextNeverBecomesAControlPiece) {
  for (const Model model : {Model::bpe, Model::unigram}) {
    // Even where the text that it learns from is full of them.
    const TemporaryFolder folder;
    std::vector<std::string> lines = some_prompts(300, 2);
    std::string all;
    const auto tokenizer = some_tokenizer(model);
    for (std::int32_t id = 0; id < Tokenizer::kControls + 10; ++id) all += tokenizer->piece(id);
    for (std::string& line : lines) line += all;
    TokenizerConfig config;
    config.vocab_size = 420;
    config.model = model;
    Tokenizer::train(config, views(lines), folder / "t.model");
    const Tokenizer trained(folder / "t.model");
    for (const Tokenizer* t : {tokenizer.get(), &trained}) {
      for (const std::string& text : {all, all + "<FLV>", std::string("[R] <eos> <sep>")}) {
        for (const auto& ids : {t->encode(text), t->encode_sampled(text, 0.5, {1, 2, 3}, 0)}) {
          for (const std::int32_t id : ids) EXPECT_GE(id, Tokenizer::kControls) << t->piece(id);
          EXPECT_EQ(t->decode(ids), text);
        }
      }
    }
  }
}

TEST(Tokenizer, ControlPiecesHaveFixedPlacesAndNoText) {
  const auto tokenizer = some_tokenizer();
  EXPECT_EQ(tokenizer->vocab_size(), 460);
  EXPECT_TRUE(tokenizer->byte_fallback());
  EXPECT_EQ(tokenizer->piece(Tokenizer::kPad), "<pad>");
  EXPECT_EQ(tokenizer->piece(Tokenizer::kUnknown), "<unk>");
  EXPECT_EQ(tokenizer->piece(Tokenizer::kBegin), "<bos>");
  EXPECT_EQ(tokenizer->piece(Tokenizer::kEnd), "<eos>");
  EXPECT_EQ(tokenizer->piece(Tokenizer::kSeparator), "<sep>");
  EXPECT_EQ(tokenizer->piece(Tokenizer::kModeR), "[R]");
  EXPECT_EQ(tokenizer->piece(Tokenizer::kModeX), "[X]");
  EXPECT_EQ(tokenizer->piece(Tokenizer::kControls), "<0x00>");
  EXPECT_EQ(tokenizer->bytes(Tokenizer::kControls + 'A'), "A");
  std::vector<std::int32_t> ids;
  for (std::size_t i = 0; i < kPrefixes.size(); ++i) {
    ids.push_back(tokenizer->prefix_id(kPrefixes[i].name));
    EXPECT_EQ(ids.back(), Tokenizer::kFirstPrefix + static_cast<int>(i));
    EXPECT_EQ(tokenizer->piece(ids.back()), fmt::format("<{}>", kPrefixes[i].name));
  }
  for (const std::int32_t id : tokenizer->encode("a cat")) ids.push_back(id);
  ids.push_back(Tokenizer::kEnd);
  EXPECT_EQ(tokenizer->decode(ids), "a cat");
  EXPECT_TRUE(has(message_of<UserError>([&] { tokenizer->prefix_id("FLAV"); }), "FLV"));
  EXPECT_NE(message_of<Error>([&] { tokenizer->piece(460); }), "");
  EXPECT_NE(message_of<Error>([&] { tokenizer->decode(std::vector<std::int32_t>{-1}); }), "");
}

TEST(Tokenizer, DigitsAreSplit) {
  const auto tokenizer = some_tokenizer();
  EXPECT_EQ(tokenizer->encode("a 1950").size(), tokenizer->encode("a").size() + tokenizer->encode("").size() + 5);
}

TEST(Tokenizer, AQueryOpensItsPromptWithTheSamePieces) {
  const auto tokenizer = some_tokenizer();
  for (const Pair& pair : some_pairs(200, 3)) {
    const auto query = tokenizer->encode(pair.query), prompt = tokenizer->encode(pair.prompt);
    ASSERT_LE(query.size(), prompt.size());
    EXPECT_TRUE(std::equal(query.begin(), query.end(), prompt.begin())) << pair.prompt;
  }
}

TEST(Tokenizer, BytesThatMakeNoCharacterAreReplaced) {
  const auto tokenizer = some_tokenizer();
  const auto byte = [](int value) { return Tokenizer::kControls + value; };
  EXPECT_EQ(tokenizer->decode(std::vector<std::int32_t>{byte('a'), byte(0xE2), byte('b')}), "a\uFFFDb");
  EXPECT_EQ(tokenizer->decode(std::vector<std::int32_t>{byte(0xC3), byte(0xA9), byte(0xC3)}), "\u00E9\uFFFD");
}

TEST(Tokenizer, InvalidTextIsRefused) {
  const auto tokenizer = some_tokenizer();
  for (const char* text : {"\xFF", "a\xC3", "\xED\xA0\x80", "\xC0\x80"}) {
    EXPECT_TRUE(has(message_of<UserError>([&] { tokenizer->encode(text); }), "UTF-8"));
    EXPECT_TRUE(has(message_of<UserError>([&] { tokenizer->encode_sampled(text, 0.1, {}, 0); }), "UTF-8"));
    const TemporaryFolder folder;
    const std::vector<std::string_view> lines = {"good", text};
    const auto train = [&] { Tokenizer::train({}, lines, folder / "t"); };
    EXPECT_TRUE(has(message_of<UserError>(train), "text 2"));
  }
}

TEST(Tokenizer, SamplingIsAPureFunctionOfItsKey) {
  for (const Model model : {Model::bpe, Model::unigram}) {
    const auto tokenizer = some_tokenizer(model);
    const std::string text = some_prompts(1, 11)[0] + ", trending on artstation";
    const double alpha = model == Model::bpe ? 0.4 : 0.8;
    std::set<std::vector<std::int32_t>> seen;
    for (std::uint64_t i = 0; i < 40; ++i) {
      const auto ids = tokenizer->encode_sampled(text, alpha, {1, 2, 3}, i << 32);
      EXPECT_EQ(ids, tokenizer->encode_sampled(text, alpha, {1, 2, 3}, i << 32));
      seen.insert(ids);
    }
    EXPECT_GT(seen.size(), 30u);
    EXPECT_NE(tokenizer->encode_sampled(text, alpha, {1, 2, 3}, 0),
              tokenizer->encode_sampled(text, alpha, {1, 2, 4}, 0));
    EXPECT_EQ(tokenizer->encode_sampled(text, 0, {1, 2, 3}, 0), tokenizer->encode(text));
    // A little of it changes little.
    EXPECT_EQ(tokenizer->encode_sampled(text, 1e-9, {1, 2, 3}, 0), tokenizer->encode(text));
  }
}

TEST(Tokenizer, AlphaOneSplitsByCharacters) {
  const auto tokenizer = some_tokenizer();
  EXPECT_EQ(tokenizer->encode_sampled("red cat", 1, {1, 2, 3}, 0).size(), 8u);
}

TEST(Tokenizer, UnigramSamplesFollowTheModel) {
  const auto tokenizer = some_tokenizer(Model::unigram);
  const auto mean = [&](double alpha) {
    double sum = 0;
    for (std::uint64_t i = 0; i < 300; ++i) {
      sum += static_cast<double>(tokenizer->encode_sampled("a lighthouse", alpha, {5, 6, 7}, i << 32).size());
    }
    return sum / 300;
  };
  const auto best = static_cast<double>(tokenizer->encode("a lighthouse").size());
  EXPECT_NEAR(mean(0.02), best, 0.05);
  EXPECT_GT(mean(0.7), mean(0.5));
  EXPECT_GT(mean(1), mean(0.7));
}

TEST(Tokenizer, TrainingIsDeterministicAndTheSeedDrawsLines) {
  const TemporaryFolder folder;
  const std::vector<std::string> prompts = some_prompts(400, 4);
  for (const Model model : {Model::bpe, Model::unigram}) {
    TokenizerConfig config;
    config.vocab_size = 400;
    config.model = model;
    Tokenizer::train(config, views(prompts), folder / "a");
    Tokenizer::train(config, views(prompts), folder / "b");
    EXPECT_EQ(read_file(folder / "a"), read_file(folder / "b"));
    EXPECT_EQ(Tokenizer(folder / "a").fingerprint(), hash_bytes(read_file(folder / "a")));
    config.max_lines = 100;
    Tokenizer::train(config, views(prompts), folder / "c");
    config.seed = 2;
    Tokenizer::train(config, views(prompts), folder / "d");
    EXPECT_NE(read_file(folder / "a"), read_file(folder / "c"));
    EXPECT_NE(read_file(folder / "c"), read_file(folder / "d"));
  }
}

TEST(Tokenizer, AVocabularyThatDoesNotFitTheTextIsNamed) {
  const TemporaryFolder folder;
  const std::vector<std::string> prompts = some_prompts(50, 5);
  for (const Model model : {Model::bpe, Model::unigram}) {
    TokenizerConfig config;
    config.model = model;
    config.vocab_size = 30000;
    const auto train = [&] { Tokenizer::train(config, views(prompts), folder / "t"); };
    const std::string large = message_of<UserError>(train);
    ASSERT_TRUE(has(large, "too large")) << large;
    const auto at = large.find("text: ");
    ASSERT_NE(at, std::string::npos) << large;
    config.vocab_size = std::atoi(large.c_str() + at + 6);
    EXPECT_EQ(message_of<Error>(train), "") << "the size it names is possible";
    ++config.vocab_size;
    EXPECT_TRUE(has(message_of<UserError>(train), "too large")) << "and the greatest";
    config.vocab_size = 275;
    const std::string small = message_of<UserError>(train);
    EXPECT_TRUE(has(small, "too small")) << small;
    config.vocab_size = 100;
    EXPECT_TRUE(has(message_of<UserError>(train), "vocab_size"));
  }
  TokenizerConfig config;
  config.character_coverage = 0.5;
  EXPECT_TRUE(has(message_of<UserError>([&] { Tokenizer::train(config, views(prompts), folder / "t"); }), "coverage"));
  for (const std::vector<std::string>& none : {std::vector<std::string>{}, {"", " \n"}}) {
    EXPECT_TRUE(has(message_of<UserError>([&] { Tokenizer::train({}, views(none), folder / "u"); }), "no text"));
  }
  EXPECT_FALSE(std::filesystem::exists(folder / "u"));
}

TEST(Tokenizer, ForeignAndDamagedFilesAreRefused) {
  const TemporaryFolder folder;
  TokenizerConfig config;
  config.vocab_size = 400;
  Tokenizer::train(config, views(some_prompts(200, 6)), folder / "t");
  const std::string good = read_file(folder / "t");
  EXPECT_TRUE(has(message_of<UserError>([&] { Tokenizer(folder / "missing"); }), "missing"));
  const auto load = [&](const std::string& bytes) {
    spill(folder / "bad", bytes);
    return message_of<UserError>([&] { Tokenizer(folder / "bad"); });
  };
  EXPECT_TRUE(has(load(""), "not a tokenizer"));
  for (const std::size_t size : {1ul, 18ul, 19ul, good.size() / 2, good.size() - 1}) {
    EXPECT_TRUE(has(load(good.substr(0, size)), "not a tokenizer")) << size;
  }
  for (std::size_t at = 0; at < good.size(); at += 97) {
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ 0x10);
    EXPECT_NE(load(bad), "") << at;
  }
  EXPECT_EQ(load(good), "");
  if (const char* data = std::getenv("UNFURL_TEST_DATA")) {
    const auto foreign = std::filesystem::path(data) / "models/sentencepiece_test_en.model";
    const std::string message = message_of<UserError>([&] { Tokenizer{foreign}; });
    EXPECT_TRUE(has(message, "lacks the pieces")) << message;
  }
}

TEST(Tokenizer, RealPromptsSurvive) {
  const char* data = std::getenv("UNFURL_TEST_DATA");
  if (data == nullptr) GTEST_SKIP() << "UNFURL_TEST_DATA is not set";
  std::ifstream file(std::filesystem::path(data) / "prompts/diffusiondb.txt");
  std::vector<std::string> prompts;
  for (std::string line; std::getline(file, line);) prompts.push_back(line);
  ASSERT_GT(prompts.size(), 8000u);
  const TemporaryFolder folder;
  TokenizerConfig config;
  config.vocab_size = 2048;
  Tokenizer::train(config, views(prompts), folder / "t");
  const Tokenizer tokenizer(folder / "t");
  std::size_t bytes = 0, pieces = 0;
  for (const std::string& prompt : prompts) {
    const auto ids = tokenizer.encode(prompt);
    ASSERT_EQ(tokenizer.decode(ids), prompt);
    bytes += prompt.size();
    pieces += ids.size();
  }
  EXPECT_GT(static_cast<double>(bytes) / static_cast<double>(pieces), 2.5);
  for (std::size_t i = 0; i < prompts.size(); i += 40) {
    // With next to no dropout our merges are the library's.
    EXPECT_EQ(tokenizer.encode_sampled(prompts[i], 1e-9, {1, 1, 1}, 0), tokenizer.encode(prompts[i]));
    EXPECT_EQ(tokenizer.decode(tokenizer.encode_sampled(prompts[i], 0.1, {1, 1, 1}, i << 32)), prompts[i]);
  }
}

}  // namespace
}  // namespace unfurl::tests
