#include <fmt/format.h>

#include "core/error.h"
#include "core/names.h"
#include "train/commands.h"
#include "train/corpus/pair.h"
#include "train/data/example.h"
#include "train/data/tokenizer.h"

namespace unfurl::train {
namespace {

void show(const Pair& pair, std::int64_t number, const Tokenizer& tokenizer, Index context) {
  const std::int32_t prefix = pair.prefix.empty() ? -1 : tokenizer.prefix_id(pair.prefix);
  const Example example = make_example(prefix, tokenizer.encode(pair.query), tokenizer.encode(pair.prompt), context);
  fmt::print("pair {}\n", number);
  const auto fact = [](const char* name, std::string_view value) {
    if (!value.empty()) fmt::print("  {:<8} {}\n", name, value);
  };
  fact("query", pair.query);
  fact("prompt", pair.prompt);
  fact("prefix", pair.prefix);
  fact("type", pair.type);
  fact("id", pair.id);
  const auto length = static_cast<Index>(example.tokens.size());
  const Index predicted = length - example.prefix_length;
  fmt::print("  {} tokens: {} {} both ways, {} {} predicted{}\n\n", length, example.prefix_length,
             plural(example.prefix_length, "attends", "attend"), predicted, predicted == 1 ? "is" : "are",
             example.truncated ? "; cut to fit the context" : "");
  fmt::print("  {:>5} {:>6}  {:<9}  {:<4}  piece\n", "place", "id", "attends", "loss");
  for (Index i = 0; i < length; ++i) {
    const std::int32_t id = example.tokens[static_cast<std::size_t>(i)];
    const bool query = i < example.prefix_length;
    fmt::print("  {:>5} {:>6}  {:<9}  {:<4}  {}\n", i, id, query ? "both ways" : "back", query ? "no" : "yes",
               tokenizer.piece(id));
  }
  fmt::print("\n");
}

}  // namespace

int run_corpus_show(const CorpusShowOptions& options) {
  const Tokenizer tokenizer(options.tokenizer);
  PairReader reader(options.file);
  Pair pair;
  std::int64_t number = 0, shown = 0;
  for (; shown < options.count && reader.next(pair); ++number) {
    if (number < options.first) continue;
    show(pair, number, tokenizer, options.context);
    ++shown;
  }
  if (shown == 0) {
    user_error("{}: there is no pair {}: the file has {}", options.file.string(), options.first, number);
  }
  return 0;
}

}  // namespace unfurl::train
