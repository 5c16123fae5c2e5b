#include "train/data/prepare.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/error.h"
#include "core/names.h"
#include "train/data/denoise.h"
#include "train/data/documents.h"
#include "train/log.h"

namespace unfurl::train {
namespace {

constexpr const char* kSideNames[] = {"base", "refine", "validation", "test", "given"};

SplitConfig split_config(const DataConfig& config) {
  SplitConfig out;
  out.train = config.split.train;
  out.validation = config.split.validation;
  out.test = config.split.test;
  out.base = config.split.base;
  out.similarity = config.split.similarity > 0 ? config.split.similarity : 2;  // above 1 nothing is a near-duplicate
  return out;
}

/// Of everything that decides what the shards hold.
std::uint64_t fingerprint_of(const DataConfig& config, const Tokenizer& tokenizer) {
  std::string text =
      fmt::format("1 {:x} {} {} {} {} {} {}", tokenizer.fingerprint(), config.split.train, config.split.validation,
                  config.split.test, config.split.base, config.split.similarity, config.bad_line_share);
  if (config.objective != Objective::pairs) {
    text += fmt::format(" {} {} {}", to_string(config.objective), to_string(config.documents), config.context);
    if (config.objective == Objective::ul2) text += " joined";  // as earlier programs did not
  }
  for (const SourceConfig& source : config.sources) {
    text += fmt::format(" {:x}", hash_bytes(MappedFile(source.path).text()));
    if (source.side == SourceSide::train) text += " given";
  }
  return hash_bytes(text);
}

std::filesystem::path shard_path(const std::filesystem::path& folder, std::size_t side, std::size_t source) {
  return folder / fmt::format("{}-{}.shard", kSideNames[side], source);
}

/// Puts the parts of the documents that are longer than `most` tokens in their places.
void cut_documents(SplitPairs& data, const Tokenizer& tokenizer, Index most) {
  SplitPairs out;
  for (std::size_t i = 0; i < data.pairs.size(); ++i) {
    for (std::string& part : cut_document(data.pairs[i].prompt, tokenizer, most)) {
      Pair& pair = out.pairs.emplace_back();
      pair.prompt = std::move(part);
      pair.id = data.pairs[i].id;
      pair.simulated = data.pairs[i].simulated;
      out.sources.push_back(data.sources[i]);
      out.split.sides.push_back(data.split.sides[i]);
    }
  }
  data.pairs = std::move(out.pairs);
  data.sources = std::move(out.sources);
  data.split.sides = std::move(out.split.sides);
}

void write_shards(const DataConfig& config, const Tokenizer& tokenizer, const std::filesystem::path& folder) {
  SplitPairs data = read_and_split(config);
  const Split& split = data.split;
  const bool texts = config.objective != Objective::pairs;
  info("{} {} in {} {} of one source ({} joined as near-duplicates): {}", data.pairs.size(),
       plural(data.pairs.size(), texts ? "text" : "pair"), split.groups, plural(split.groups, "group"), split.merged,
       sides_of(split));
  if (texts) cut_documents(data, tokenizer, document_tokens(config.objective, config.context));
  make_folder(folder);
  for (std::size_t side = 0; side < kSides; ++side) {
    for (std::size_t source = 0; source < config.sources.size(); ++source) {
      std::vector<std::int64_t> chosen;
      for (std::size_t i = 0; i < data.pairs.size(); ++i) {
        if (static_cast<std::size_t>(split.sides[i]) == side && data.sources[i] == source) {
          chosen.push_back(static_cast<std::int64_t>(i));
        }
      }
      write_shard(shard_path(folder, side, source), tokenizer, data.pairs, chosen);
    }
  }
  write_file(folder / "complete", "");  // the last thing written: what stands without it is from a killed run
}

bool has_base(DataPart part) { return part == DataPart::base || part == DataPart::all; }
bool has_refine(DataPart part) { return part == DataPart::refine || part == DataPart::all; }

}  // namespace

std::string sides_of(const Split& split) {
  const auto given = std::ranges::count(split.sides, Side::given);
  return fmt::format("{} base, {} re-fine-tune, {} validation, {} test{}", split.base, split.refine, split.validation,
                     split.test, given > 0 ? fmt::format(", {} given", given) : "");
}

SplitPairs read_and_split(const DataConfig& config) {
  if (config.sources.empty()) user_error("the recipe names no data; set data.sources to a list of {{path, weight}}");
  SplitPairs out;
  const BadLineRule rule = {.max_bad_share = config.bad_line_share};
  const auto read = [&](SourceSide side) {
    for (std::size_t source = 0; source < config.sources.size(); ++source) {
      if (config.sources[source].side != side) continue;
      const std::filesystem::path path = config.sources[source].path;
      std::vector<Pair> pairs =
          config.objective == Objective::pairs ? read_pairs(path, rule) : read_documents(path, config.documents, rule);
      out.sources.insert(out.sources.end(), pairs.size(), source);
      std::move(pairs.begin(), pairs.end(), std::back_inserter(out.pairs));
    }
  };
  read(SourceSide::split);
  out.split = split_pairs(out.pairs, split_config(config));
  read(SourceSide::train);
  out.split.sides.resize(out.pairs.size(), Side::given);
  return out;
}

std::vector<std::string_view> training_texts(const SplitPairs& data, DataPart part) {
  std::vector<std::string_view> texts;
  for (std::size_t i = 0; i < data.pairs.size(); ++i) {
    const Side side = data.split.sides[i];
    const bool wanted =
        side == Side::given || (side == Side::base && has_base(part)) || (side == Side::refine && has_refine(part));
    if (!wanted) continue;
    if (!data.pairs[i].query.empty()) texts.push_back(data.pairs[i].query);
    texts.push_back(data.pairs[i].prompt);
  }
  return texts;
}

std::vector<Source> PreparedData::training(DataPart part) const {
  std::vector<Source> out;
  const auto add = [&](Side of) { out.insert(out.end(), side(of).begin(), side(of).end()); };
  if (has_base(part)) add(Side::base);
  if (has_refine(part)) add(Side::refine);
  add(Side::given);
  return out;
}

void require_training_pairs(Index training, Index held_out) {
  if (training > 0) return;
  user_error(
      "no pairs to train on: all {} fell on the validation and test sides; set data.split.train, or give more pairs",
      held_out);
}

void train_tokenizer(const Recipe& recipe, const std::filesystem::path& out) {
  const SplitPairs data = read_and_split(recipe.data);
  const std::vector<std::string_view> texts = training_texts(data, DataPart::all);
  require_training_pairs(static_cast<Index>(texts.size()), static_cast<Index>(data.pairs.size()));
  TokenizerConfig config;
  config.vocab_size = static_cast<int>(recipe.tokenizer.vocab_size);
  config.model =
      recipe.tokenizer.type == TokenizerKind::bpe ? TokenizerConfig::Model::bpe : TokenizerConfig::Model::unigram;
  config.sentinels = static_cast<int>(recipe.tokenizer.sentinels);
  config.character_coverage = recipe.tokenizer.character_coverage;
  config.max_lines = recipe.tokenizer.max_lines;
  config.seed = static_cast<std::uint64_t>(recipe.seed);
  Tokenizer::train(config, texts, out);
  info("tokenizer of {} pieces from {} {}: {}", config.vocab_size, texts.size(), plural(texts.size(), "text"),
       out.string());
}

Index PreparedData::pairs(Side side_) const {
  Index count = 0;
  for (const Source& source : side(side_)) count += source.shard->size();
  return count;
}

bool PreparedData::simulated() const {
  return std::ranges::any_of(sides, [](const std::vector<Source>& of_side) {
    return std::ranges::any_of(of_side, [](const Source& source) { return source.shard->simulated(); });
  });
}

PreparedData prepare_data(const DataConfig& config, const Tokenizer& tokenizer, const std::filesystem::path& folder) {
  if (config.sources.empty()) user_error("the recipe names no data; set data.sources to a list of {{path, weight}}");
  PreparedData out;
  out.fingerprint = fingerprint_of(config, tokenizer);
  const std::filesystem::path shards = folder / fmt::format("shards-{:016x}", out.fingerprint);
  bool there = std::filesystem::exists(shards / "complete");
  for (std::size_t side = 0; side < kSides; ++side) {
    for (std::size_t source = 0; source < config.sources.size(); ++source) {
      there = there && std::filesystem::exists(shard_path(shards, side, source));
    }
  }
  if (!there) {
    try {
      write_shards(config, tokenizer, shards);
    } catch (...) {
      std::error_code ignored;
      std::filesystem::remove_all(shards, ignored);
      throw;
    }
  }
  for (std::size_t side = 0; side < kSides; ++side) {
    for (std::size_t source = 0; source < config.sources.size(); ++source) {
      auto shard = std::make_shared<const Shard>(shard_path(shards, side, source), tokenizer);
      if (shard->size() > 0) out.sides[side].push_back({std::move(shard), config.sources[source].weight});
    }
  }
  return out;
}

}  // namespace unfurl::train
