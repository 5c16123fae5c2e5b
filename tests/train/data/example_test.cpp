#include "train/data/example.h"

#include <gtest/gtest.h>

#include <numeric>

#include "core/error.h"
#include "tests/train/data/fixture.h"

namespace unfurl::tests {
namespace {

using namespace unfurl::train;
using Ids = std::vector<std::int32_t>;

constexpr std::int32_t kFlavor = Tokenizer::kFirstPrefix + 4;

Ids range(std::int32_t first, int count) {
  Ids ids(static_cast<std::size_t>(count));
  std::iota(ids.begin(), ids.end(), first);
  return ids;
}

TEST(Example, LaysOutAPair) {
  const Example with = make_example(kFlavor, Ids{100, 101}, Ids{200, 201, 202}, 64);
  EXPECT_EQ(with.tokens, (Ids{kFlavor, 100, 101, Tokenizer::kSeparator, 200, 201, 202, Tokenizer::kEnd}));
  EXPECT_EQ(with.prefix_length, 4);
  EXPECT_EQ(with.rows(), 7);
  EXPECT_FALSE(with.truncated);
  const Example without = make_example(-1, Ids{100, 101}, Ids{200, 201, 202}, 64);
  EXPECT_EQ(without.tokens, Ids(with.tokens.begin() + 1, with.tokens.end()));
  EXPECT_EQ(without.prefix_length, 3);
  const Example free = without_query(with);
  EXPECT_EQ(free.tokens, (Ids{Tokenizer::kSeparator, 200, 201, 202, Tokenizer::kEnd}));
  EXPECT_EQ(free.prefix_length, 1);
  EXPECT_EQ(query_part(-1, Ids{100, 101}, 9), (Ids{100, 101, Tokenizer::kSeparator}));
  EXPECT_EQ(query_part(kFlavor, Ids{100, 101}, 1), (Ids{kFlavor, 100, Tokenizer::kSeparator}));
}

TEST(Example, TruncatesByRule) {
  // 16 rows are 17 tokens: prefix, <sep>, and 15 for query, prompt and <eos>.
  const auto example = [](int query, int prompt) {
    return make_example(kFlavor, range(100, query), range(500, prompt), 16);
  };
  EXPECT_FALSE(example(4, 10).truncated);
  EXPECT_EQ(example(4, 10).rows(), 16);
  EXPECT_EQ(example(4, 10).tokens.back(), Tokenizer::kEnd);
  const Example cut = example(4, 11);  // the prompt loses nothing, but its end
  EXPECT_TRUE(cut.truncated);
  EXPECT_EQ(cut.rows(), 16);
  EXPECT_EQ(cut.tokens.back(), 510);
  const Example both = example(20, 20);  // half for the query
  EXPECT_EQ(both.prefix_length, 1 + 8 + 1);
  EXPECT_EQ(both.tokens.size(), 17u);
  const Example query = example(20, 3);  // more than half where the prompt leaves room
  EXPECT_EQ(query.prefix_length, 1 + 11 + 1);
  EXPECT_EQ(query.tokens.back(), Tokenizer::kEnd);
  EXPECT_TRUE(query.truncated);
  EXPECT_THROW(make_example(-1, Ids{1}, Ids{2}, 3), Error);
}

TEST(Example, EveryLengthFitsAndKeepsWhatItCan) {
  for (const int context : {4, 5, 16, 17, 33}) {
    for (int query = 0; query < 40; ++query) {
      for (int prompt = 0; prompt < 40; ++prompt) {
        const Example with = make_example(kFlavor, range(100, query), range(500, prompt), context);
        const Example without = make_example(-1, range(100, query), range(500, prompt), context);
        ASSERT_LE(with.rows(), context);
        ASSERT_EQ(with.rows(), example_rows(true, query, prompt, context));
        ASSERT_EQ(without.rows(), example_rows(false, query, prompt, context));
        ASSERT_EQ(Ids(with.tokens.begin() + 1, with.tokens.end()), without.tokens);
        ASSERT_EQ(with.truncated, query + prompt + 2 > context);
        if (with.truncated) {
          ASSERT_EQ(with.rows(), context) << "nothing is cut without need";
        }
        ASSERT_LE(without_query(with).rows(), without.rows());
        if (query > 0 && prompt > 0) {
          ASSERT_GT(static_cast<Index>(with.tokens.size()), with.prefix_length);
        }
      }
    }
  }
}

}  // namespace
}  // namespace unfurl::tests
