#include "train/data/example.h"

#include <algorithm>

#include "core/error.h"

namespace unfurl::train {
namespace {

struct Cut {
  Index query, prompt;  // tokens kept
  bool end;             // room for <eos>
};

Cut cut(Index query, Index prompt, Index context) {
  require(context >= 4, "example: a context of {} rows is too short, 4 is the least", context);
  const Index room = context + 1 - 2;  // the last token needs no row; prefix and <sep> are always counted
  query = std::min(query, std::max(context / 2, room - (prompt + 1)));
  const bool end = query + prompt + 1 <= room;
  return {query, end ? prompt : room - query, end};
}

}  // namespace

std::vector<std::int32_t> query_part(std::int32_t prefix, std::span<const std::int32_t> query, Index limit) {
  std::vector<std::int32_t> tokens;
  if (prefix >= 0) tokens.push_back(prefix);
  const auto kept = query.first(static_cast<std::size_t>(std::min<Index>(limit, static_cast<Index>(query.size()))));
  tokens.insert(tokens.end(), kept.begin(), kept.end());
  tokens.push_back(Tokenizer::kSeparator);
  return tokens;
}

Example make_example(std::int32_t prefix, std::span<const std::int32_t> query, std::span<const std::int32_t> prompt,
                     Index context) {
  const Cut kept = cut(static_cast<Index>(query.size()), static_cast<Index>(prompt.size()), context);
  Example example;
  example.tokens = query_part(prefix, query, kept.query);
  example.prefix_length = static_cast<Index>(example.tokens.size());
  example.tokens.insert(example.tokens.end(), prompt.begin(), prompt.begin() + kept.prompt);
  if (kept.end) example.tokens.push_back(Tokenizer::kEnd);
  example.truncated = !kept.end || kept.query < static_cast<Index>(query.size());
  return example;
}

Index example_rows(bool prefix, Index query, Index prompt, Index context) {
  const Cut kept = cut(query, prompt, context);
  return (prefix ? 1 : 0) + kept.query + 1 + kept.prompt + (kept.end ? 1 : 0) - 1;
}

Example without_query(const Example& example) {
  Example out;
  out.tokens.push_back(Tokenizer::kSeparator);
  out.tokens.insert(out.tokens.end(), example.tokens.begin() + example.prefix_length, example.tokens.end());
  out.prefix_length = 1;
  out.truncated = example.truncated;
  return out;
}

}  // namespace unfurl::train
