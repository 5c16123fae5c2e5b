#include <fmt/format.h>

#include "core/error.h"
#include "core/files.h"
#include "core/names.h"
#include "train/commands.h"
#include "train/corpus/pair.h"
#include "train/data/tokenizer.h"
#include "train/report/progress.h"

namespace unfurl::train {

int run_tokenizer_train(const TokenizerTrainOptions& options) {
  if (const auto folder = options.out.parent_path(); !folder.empty()) make_folder(folder);
  for (const auto& input : options.inputs) require_other_file(options.out, input);
  std::vector<std::string> texts;
  for (const auto& input : options.inputs) {
    if (input.extension() == ".jsonl") {
      for (Pair& pair : read_pairs(input)) {
        texts.push_back(std::move(pair.query));
        texts.push_back(std::move(pair.prompt));
      }
      continue;
    }
    const MappedFile file(input);
    for (std::string_view left = file.text(); !left.empty();) {
      const std::size_t end = std::min(left.find('\n'), left.size());
      std::string_view line = left.substr(0, end);
      if (line.ends_with('\r')) line.remove_suffix(1);
      if (!line.empty()) texts.emplace_back(line);
      left.remove_prefix(std::min(end + 1, left.size()));
    }
  }
  const std::vector<std::string_view> lines(texts.begin(), texts.end());
  TokenizerConfig config;
  config.vocab_size = static_cast<int>(options.config.vocab_size);
  config.sentinels = static_cast<int>(options.config.sentinels);
  config.model =
      options.config.type == TokenizerKind::bpe ? TokenizerConfig::Model::bpe : TokenizerConfig::Model::unigram;
  config.character_coverage = options.config.character_coverage;
  config.max_lines = options.config.max_lines;
  config.seed = static_cast<std::uint64_t>(options.seed);
  Tokenizer::train(config, lines, options.out);

  const Tokenizer tokenizer(options.out);
  constexpr std::size_t kSample = 1000;  // texts that the figure below is measured on, spread over all
  const std::size_t stride = std::max<std::size_t>(1, lines.size() / kSample);
  std::size_t bytes = 0, pieces = 0;
  for (std::size_t i = 0; i < lines.size(); i += stride) {
    bytes += lines[i].size();
    pieces += tokenizer.encode(lines[i]).size();
  }
  fmt::print("{}: {} pieces from {} {}; a piece is {:.2f} bytes on average\n", options.out.string(),
             grouped(tokenizer.vocab_size()), grouped(static_cast<std::int64_t>(lines.size())),
             plural(lines.size(), "text"),
             static_cast<double>(bytes) / static_cast<double>(std::max<std::size_t>(pieces, 1)));
  return 0;
}

}  // namespace unfurl::train
