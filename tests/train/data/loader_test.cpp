#include "train/data/loader.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "core/error.h"
#include "tests/train/data/fixture.h"

namespace unfurl::tests {
namespace {

using namespace unfurl::train;

std::shared_ptr<const Shard> shard_of(int count, std::uint64_t seed) {
  const TemporaryFolder folder;
  const std::vector<Pair> pairs = some_pairs(count, seed);
  std::vector<std::int64_t> indices(pairs.size());
  std::iota(indices.begin(), indices.end(), 0);
  write_shard(folder / "s", *some_tokenizer(), pairs, indices);
  return std::make_shared<const Shard>(folder / "s", *some_tokenizer());  // the map outlives the file's name
}

LoaderConfig config_of(Index tokens = 512, Index context = 128) {
  LoaderConfig config;
  config.tokens = tokens;
  config.max_documents = 64;
  config.context = context;
  config.seed = 5;
  return config;
}

void expect_equal(const Batch& a, const Batch& b) {
  EXPECT_EQ(a.ids, b.ids);
  EXPECT_EQ(a.cu_seqlens, b.cu_seqlens);
  EXPECT_EQ(a.prefix_lengths, b.prefix_lengths);
  EXPECT_EQ(a.target_rows, b.target_rows);
  EXPECT_EQ(a.targets, b.targets);
  EXPECT_EQ(a.examples, b.examples);
}

std::map<std::int64_t, int> times(const std::vector<Batch>& batches) {
  std::map<std::int64_t, int> seen;
  for (const Batch& batch : batches) {
    for (const std::int64_t example : batch.examples) ++seen[example];
  }
  return seen;
}

std::vector<std::int32_t> document(const Batch& batch, std::size_t d) {
  return {batch.ids.begin() + batch.cu_seqlens[d], batch.ids.begin() + batch.cu_seqlens[d + 1]};
}

TEST(BatchLoader, ShowsEveryExampleOnceAnEpochWithinTheCapacity) {
  const auto shard = shard_of(700, 3);
  for (const double sampling : {0.0, 0.1}) {
    LoaderConfig config = config_of();
    config.subword_sampling = sampling;
    BatchLoader loader(some_tokenizer(), {{shard, 1}}, config);
    std::vector<std::int64_t> orders[2];
    for (int epoch = 0; epoch < 2; ++epoch) {
      if (epoch == 1) loader.seek({1, 0});
      const std::vector<Batch> batches = loader.next(loader.bins());
      EXPECT_EQ(loader.state(), (LoaderState{epoch, loader.bins()}));
      const auto seen = times(batches);
      ASSERT_EQ(seen.size(), 700u);
      for (const auto& [example, count] : seen) ASSERT_EQ(count, 1) << example;
      for (const Batch& batch : batches) {
        EXPECT_EQ(batch.capacity(), 512);
        EXPECT_LE(batch.tokens, 512);
        EXPECT_EQ(batch.cu_seqlens.back(), batch.tokens);
        EXPECT_EQ(batch.order.size(), 512u);
        EXPECT_TRUE(std::ranges::adjacent_find(batch.target_rows, std::greater_equal<>()) == batch.target_rows.end());
        for (std::size_t d = 0; d < batch.examples.size(); ++d) {
          const std::vector<std::int32_t> ids = document(batch, d);
          const auto [source, i] = loader.locate(batch.examples[d]);
          const auto separator = std::ranges::find(ids, Tokenizer::kSeparator);
          ASSERT_EQ(separator - ids.begin() + 1, batch.prefix_lengths[d]);
          const std::vector<std::int32_t> prompt(separator + 1, ids.end());
          EXPECT_TRUE(shard->prompt(i).starts_with(some_tokenizer()->decode(prompt)));
        }
        orders[epoch].insert(orders[epoch].end(), batch.examples.begin(), batch.examples.end());
      }
    }
    EXPECT_NE(orders[0], orders[1]) << "each epoch has an order of its own";
  }
}

TEST(BatchLoader, PacksWithLittlePadding) {
  const auto shard = shard_of(3000, 4);
  for (const Index tokens : {256, 512, 2048}) {
    BatchLoader loader(some_tokenizer(), {{shard, 1}}, config_of(tokens));
    EXPECT_GT(loader.fill(), 0.95) << tokens;
    Index rows = 0;
    for (const Batch& batch : loader.next(loader.bins())) rows += batch.tokens;
    EXPECT_DOUBLE_EQ(loader.fill(), static_cast<double>(rows) / static_cast<double>(loader.bins() * tokens));
  }
}

TEST(BatchLoader, SeekContinuesWhereAnotherStopped) {
  const auto shard = shard_of(200, 6);
  LoaderConfig config = config_of();
  config.subword_sampling = 0.2;
  config.prefix = PrefixMode::dropout;
  BatchLoader whole(some_tokenizer(), {{shard, 1.5}}, config);
  for (std::uint32_t step = 0; step < 40; ++step) {
    const LoaderState state = whole.state();
    const auto expected = whole.next(3, {step, 0.5, 0.1});
    BatchLoader resumed(some_tokenizer(), {{shard, 1.5}}, config);
    resumed.seek(state);
    const auto found = resumed.next(3, {step, 0.5, 0.1});
    ASSERT_EQ(found.size(), 3u);
    for (std::size_t i = 0; i < 3; ++i) expect_equal(found[i], expected[i]);
    EXPECT_EQ(resumed.state(), whole.state());
  }
  EXPECT_GT(whole.state().epoch, 0) << "the test must cross epochs";
  EXPECT_THROW(whole.seek({0, 100000}), UserError);
  EXPECT_THROW(whole.seek({-1, 0}), UserError);
  EXPECT_THROW(whole.seek({0, -1}), UserError);
}

TEST(BatchLoader, ARankMakesItsOwnMicroBatchesAndKnowsTheExamplesOfTheOthers) {
  const auto shard = shard_of(200, 6);
  LoaderConfig config = config_of();
  config.subword_sampling = 0.2;
  config.prefix = PrefixMode::dropout;
  BatchLoader whole(some_tokenizer(), {{shard, 1.5}}, config), part(some_tokenizer(), {{shard, 1.5}}, config);
  constexpr Range kOwn = {2, 4};
  for (std::uint32_t step = 0; step < 40; ++step) {
    const auto all = whole.next(8, {step, 0.5, 0.1}), mine = part.next(8, {step, 0.5, 0.1}, kOwn);
    ASSERT_EQ(mine.size(), all.size());
    for (std::size_t i = 0; i < all.size(); ++i) {
      if (const auto number = static_cast<Index>(i); number >= kOwn.begin && number < kOwn.end) {
        expect_equal(mine[i], all[i]);
        EXPECT_EQ(mine[i].dropped, all[i].dropped);
      } else {
        EXPECT_EQ(mine[i].examples, all[i].examples);
        EXPECT_TRUE(mine[i].ids.empty());
      }
    }
    EXPECT_EQ(part.state(), whole.state());
  }
  EXPECT_GT(whole.state().epoch, 0) << "the test must cross epochs";
}

TEST(BatchLoader, AnEpochMayBeSmallerThanTheRequest) {
  BatchLoader loader(some_tokenizer(), {{shard_of(2, 1), 1}}, config_of());
  EXPECT_EQ(loader.bins(), 1);
  const auto batches = loader.next(8);
  ASSERT_EQ(batches.size(), 8u);
  EXPECT_EQ(loader.state().epoch, 7);
  for (const auto& [example, count] : times(batches)) EXPECT_EQ(count, 8) << example;
  EXPECT_TRUE(loader.next(0).empty());
}

TEST(BatchLoader, WeightsAreTimesPerEpoch) {
  const std::vector<Source> sources = {{shard_of(100, 1), 2.5}, {shard_of(80, 2), 0.25}, {shard_of(5, 3), 0.01}};
  BatchLoader loader(some_tokenizer(), sources, config_of());
  std::map<std::int64_t, int> quarters;
  for (int epoch = 0; epoch < 20; ++epoch) {
    loader.seek({epoch, 0});
    EXPECT_EQ(loader.examples(), 250 + 20 + 1);
    for (const auto& [example, count] : times(loader.next(loader.bins()))) {
      const auto [source, i] = loader.locate(example);
      if (source == 0) {
        EXPECT_TRUE(count == 2 || count == 3);
      }
      if (source == 1) quarters[i] += count;
      EXPECT_LT(i, loader.source(source).size());
    }
  }
  EXPECT_GT(quarters.size(), 75u) << "each epoch draws another quarter";
}

TEST(BatchLoader, PrefixesFollowTheMode) {
  const auto shard = shard_of(400, 5);
  std::map<std::int64_t, bool> has_prefix;
  for (Index i = 0; i < shard->size(); ++i) has_prefix[i] = shard->prefix(i) >= 0;
  const auto prefixed = [&](PrefixMode mode, const StepDraw& draw) {
    LoaderConfig config = config_of();
    config.prefix = mode;
    BatchLoader loader(some_tokenizer(), {{shard, 1}}, config);
    std::map<std::int64_t, bool> found;
    for (const Batch& batch : loader.next(loader.bins(), draw)) {
      for (std::size_t d = 0; d < batch.examples.size(); ++d) {
        const auto [source, i] = loader.locate(batch.examples[d]);
        const std::int32_t first = batch.ids[static_cast<std::size_t>(batch.cu_seqlens[d])];
        const bool there = first >= Tokenizer::kFirstPrefix && first < Tokenizer::kModeR;
        if (there) {
          EXPECT_EQ(first, shard->prefix(i));
        }
        found[batch.examples[d]] = there;
      }
    }
    return found;
  };
  const auto count = [](const std::map<std::int64_t, bool>& found) {
    return std::ranges::count_if(found, [](const auto& entry) { return entry.second; });
  };
  EXPECT_EQ(count(prefixed(PrefixMode::none, {1, 0, 0})), 0);
  EXPECT_EQ(prefixed(PrefixMode::always, {1, 1, 0}), has_prefix);
  EXPECT_EQ(prefixed(PrefixMode::dropout, {1, 0, 0}), has_prefix);
  EXPECT_EQ(count(prefixed(PrefixMode::dropout, {1, 1, 0})), 0);
  const auto some = prefixed(PrefixMode::dropout, {1, 0.4, 0});
  EXPECT_NEAR(static_cast<double>(count(some)), 0.6 * static_cast<double>(count(has_prefix)), 25);
  EXPECT_EQ(some, prefixed(PrefixMode::dropout, {1, 0.4, 0}));
  EXPECT_NE(some, prefixed(PrefixMode::dropout, {2, 0.4, 0}));
}

TEST(BatchLoader, ADroppedPrefixChangesNothingElse) {
  const auto shard = shard_of(60, 5);
  LoaderConfig config = config_of(512, 24);  // so short that pairs are truncated
  config.prefix = PrefixMode::dropout;
  BatchLoader with(some_tokenizer(), {{shard, 1}}, config), without(some_tokenizer(), {{shard, 1}}, config);
  EXPECT_GT(with.truncated(), 0);
  for (Index b = 0; b < with.bins(); ++b) {
    const Batch a = with.next(1, {0, 0, 0})[0], c = without.next(1, {0, 1, 0})[0];
    EXPECT_EQ(a.examples, c.examples);
    EXPECT_EQ(a.targets, c.targets);
    EXPECT_LE(c.tokens, a.tokens);
  }
}

TEST(BatchLoader, SomeExamplesAreUnconditional) {
  LoaderConfig config = config_of();
  BatchLoader loader(some_tokenizer(), {{shard_of(400, 5), 1}}, config);
  Index bare = 0;
  for (const Batch& batch : loader.next(loader.bins(), {3, 0, 0.25})) {
    for (std::size_t d = 0; d < batch.examples.size(); ++d) bare += batch.prefix_lengths[d] == 1 ? 1 : 0;
  }
  EXPECT_NEAR(static_cast<double>(bare), 100, 30);
}

TEST(BatchLoader, SamplingChangesWithTheEpoch) {
  LoaderConfig config = config_of();
  config.subword_sampling = 0.2;
  const auto shard = shard_of(1, 5);
  BatchLoader loader(some_tokenizer(), {{shard, 1}}, config);
  const auto batches = loader.next(3);
  EXPECT_NE(batches[0].ids, batches[1].ids);
  EXPECT_NE(batches[1].ids, batches[2].ids);
}

TEST(BatchLoader, NonsenseIsRefused) {
  const auto shard = shard_of(5, 5), empty = shard_of(0, 5);
  const auto make = [&](std::vector<Source> sources, const LoaderConfig& config) {
    return message_of<UserError>([&] { BatchLoader(some_tokenizer(), sources, config); });
  };
  EXPECT_EQ(make({{shard, 1}}, config_of()), "");
  EXPECT_NE(make({}, config_of()), "");
  EXPECT_NE(make({{empty, 1}}, config_of()), "");
  for (const double weight : {0.0, -1.0, 1e9, std::nan("")}) EXPECT_NE(make({{shard, weight}}, config_of()), "");
  EXPECT_NE(make({{shard, 1}}, config_of(64, 65)), "");
  EXPECT_NE(make({{shard, 1}}, config_of(64, 3)), "");
  LoaderConfig config = config_of();
  config.max_documents = 0;
  EXPECT_NE(make({{shard, 1}}, config), "");
}

TEST(FixedBatches, ShowEveryExampleOnceInTheSameWay) {
  const auto shard = shard_of(300, 8);
  LoaderConfig config = config_of();
  config.prefix = PrefixMode::always;
  const FixedBatches a({{shard, 1}}, config), b({{shard, 3}}, config);
  ASSERT_EQ(a.size(), b.size());
  std::vector<Batch> batches;
  for (Index i = 0; i < a.size(); ++i) {
    batches.push_back(a.batch(i));
    expect_equal(batches.back(), b.batch(i));
  }
  const auto seen = times(batches);
  EXPECT_EQ(seen.size(), 300u);
  for (const auto& [example, count] : seen) EXPECT_EQ(count, 1) << example;
  EXPECT_EQ(a.examples(), 300);
  EXPECT_THROW(a.batch(a.size()), Error);

  const FixedBatches bare({{shard, 1}}, config, FixedBatches::Form::unconditional, 50);
  EXPECT_EQ(bare.examples(), 50);
  for (Index i = 0; i < bare.size(); ++i) {
    const Batch batch = bare.batch(i);
    for (std::size_t d = 0; d < batch.examples.size(); ++d) EXPECT_EQ(batch.prefix_lengths[d], 1);
  }
}

}  // namespace
}  // namespace unfurl::tests
