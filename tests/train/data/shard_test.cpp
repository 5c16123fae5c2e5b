#include "train/data/shard.h"

#include <gtest/gtest.h>

#include <cstring>
#include <numeric>

#include "core/error.h"
#include "core/files.h"
#include "tests/train/data/fixture.h"

namespace unfurl::tests {
namespace {

using namespace unfurl::train;

std::vector<std::int64_t> all_of(const std::vector<Pair>& pairs) {
  std::vector<std::int64_t> indices(pairs.size());
  std::iota(indices.begin(), indices.end(), 0);
  return indices;
}

TEST(Shard, KeepsPairsAndTokens) {
  const TemporaryFolder folder;
  const auto tokenizer = some_tokenizer();
  std::vector<Pair> pairs = some_pairs(150, 7);
  pairs[3].content = {"old", "castle"};
  pairs[3].flavors = {"8k", "\"quoted\"\n\u2581"};
  const std::vector<std::int64_t> some = {149, 3, 3, 0};
  const std::uint64_t hash = write_shard(folder / "s", *tokenizer, pairs, some);
  const Shard shard(folder / "s", *tokenizer);
  EXPECT_EQ(shard.content_hash(), hash);
  ASSERT_EQ(shard.size(), 4);
  Index tokens = 0;
  for (Index i = 0; i < 4; ++i) {
    const Pair& pair = pairs[static_cast<std::size_t>(some[static_cast<std::size_t>(i)])];
    EXPECT_EQ(shard.pair(i), pair);
    EXPECT_EQ(shard.query(i), pair.query);
    EXPECT_EQ(shard.prompt(i), pair.prompt);
    EXPECT_EQ(shard.id(i), pair.id);
    EXPECT_EQ(shard.type(i), pair.type);
    EXPECT_EQ(shard.prefix(i), pair.prefix.empty() ? -1 : tokenizer->prefix_id(pair.prefix));
    const auto query = tokenizer->encode(pair.query), prompt = tokenizer->encode(pair.prompt);
    EXPECT_TRUE(std::ranges::equal(shard.query_tokens(i), query));
    EXPECT_TRUE(std::ranges::equal(shard.prompt_tokens(i), prompt));
    tokens += static_cast<Index>(query.size() + prompt.size());
  }
  EXPECT_EQ(shard.tokens(), tokens);
  EXPECT_THROW(shard.prompt(4), Error);
  EXPECT_THROW(shard.prefix(-1), Error);
  EXPECT_FALSE(shard.simulated());
  EXPECT_EQ(write_shard(folder / "t", *tokenizer, pairs, some), hash);
  EXPECT_EQ(read_file(folder / "s"), read_file(folder / "t"));
}

TEST(Shard, SaysWhetherAPairIsSimulated) {
  const TemporaryFolder folder;
  std::vector<Pair> pairs = some_pairs(3, 7);
  pairs[1].simulated = true;
  write_shard(folder / "s", *some_tokenizer(), pairs, all_of(pairs));
  const Shard shard(folder / "s", *some_tokenizer());
  EXPECT_TRUE(shard.simulated());
  for (Index i = 0; i < 3; ++i) EXPECT_EQ(shard.pair(i), pairs[static_cast<std::size_t>(i)]);
  write_shard(folder / "t", *some_tokenizer(), pairs, std::vector<std::int64_t>{0, 2});
  EXPECT_FALSE(Shard(folder / "t", *some_tokenizer()).simulated()) << "it holds none of them";
}

TEST(Shard, MayBeEmpty) {
  const TemporaryFolder folder;
  write_shard(folder / "s", *some_tokenizer(), {}, {});
  EXPECT_EQ(Shard(folder / "s", *some_tokenizer()).size(), 0);
}

TEST(Shard, BadPairsAreRefusedAndLeaveNothing) {
  const TemporaryFolder folder;
  std::vector<Pair> pairs = some_pairs(3, 8);
  pairs[1].prefix = "NOPE";
  const auto write = [&] { write_shard(folder / "s", *some_tokenizer(), pairs, all_of(pairs)); };
  EXPECT_TRUE(has(message_of<UserError>(write), "NOPE"));
  pairs[1] = pairs[0];
  pairs[1].prompt = "bad \xFF";
  EXPECT_TRUE(has(message_of<UserError>(write), "UTF-8"));
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(Shard, DamageIsNamed) {
  const TemporaryFolder folder;
  const auto tokenizer = some_tokenizer();
  const std::vector<Pair> pairs = some_pairs(20, 9);
  write_shard(folder / "s", *tokenizer, pairs, all_of(pairs));
  const std::string good = read_file(folder / "s");
  const auto load = [&](const std::string& bytes) {
    spill(folder / "bad", bytes);
    return message_of<UserError>([&] { Shard(folder / "bad", *tokenizer); });
  };
  EXPECT_EQ(load(good), "");
  EXPECT_TRUE(has(load(""), "not a token shard"));
  EXPECT_TRUE(has(load("hello, this is no shard, but it is long enough to be one, see: ..................."),
                  "not a token shard"));
  for (std::size_t size = 8; size < good.size(); size += 61) EXPECT_NE(load(good.substr(0, size)), "") << size;
  EXPECT_TRUE(has(load(good + "x"), "cut short or damaged"));
  for (std::size_t at = 0; at < good.size(); at += at < 64 ? 1 : 53) {
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ 0x80);
    EXPECT_NE(load(bad), "") << at;
  }
  // Counts that overflow when they are multiplied.
  for (const std::size_t at : {32, 40, 48}) {
    for (const std::uint64_t huge : {~std::uint64_t{0}, std::uint64_t{1} << 60, std::uint64_t{1} << 61}) {
      std::string bad = good;
      std::memcpy(bad.data() + at, &huge, 8);
      EXPECT_TRUE(has(load(bad), "cut short or damaged")) << at;
    }
  }
  std::string newer = good;
  newer[8] = 9;
  EXPECT_TRUE(has(load(newer), "version 9"));
  EXPECT_TRUE(has(message_of<UserError>([&] { Shard(folder / "missing", *tokenizer); }), "missing"));
}

TEST(Shard, AnotherTokenizersShardIsRefused) {
  const TemporaryFolder folder;
  const std::vector<Pair> pairs = some_pairs(5, 9);
  write_shard(folder / "s", *some_tokenizer(), pairs, all_of(pairs));
  const auto other = some_tokenizer(TokenizerConfig::Model::unigram);
  EXPECT_TRUE(has(message_of<UserError>([&] { Shard(folder / "s", *other); }), "another tokenizer"));
}

}  // namespace
}  // namespace unfurl::tests
