// From JSONL files to shards: read, split, tokenise, once; later runs over the same data and tokenizer find them.
#pragma once
#include <array>
#include <filesystem>
#include <memory>
#include <vector>

#include "train/data/loader.h"
#include "train/data/split.h"
#include "train/recipe/recipe.h"

namespace unfurl::train {

/// All pairs of a recipe's sources and the side each is on. Near-duplicates are found across sources, but not with
/// sources that are given for training: these stand last.
struct SplitPairs {
  std::vector<Pair> pairs;
  std::vector<std::size_t> sources;  // the source of each pair
  Split split;
};

/// Reads the sources, naming bad lines, and splits them. Throws UserError where a source cannot be read, has too large
/// a share of bad lines, or there is none.
SplitPairs read_and_split(const DataConfig& config);

/// "300 base, 310 re-fine-tune, 170 validation, 90 test": the pairs of each side, for messages; ", 40 given" where
/// there are such.
std::string sides_of(const Split& split);

/// The texts (queries and prompts) of the pairs for training, or of the part of it that `config.part` names: what a
/// tokenizer is trained on.
std::vector<std::string_view> training_texts(const SplitPairs& data, DataPart part);

/// Throws UserError where no pair is there to train on: `held_out` of them are on the other sides.
void require_training_pairs(Index training, Index held_out);

/// Trains the recipe's tokenizer on its training texts and writes it. Throws UserError where there are none.
void train_tokenizer(const Recipe& recipe, const std::filesystem::path& out);

/// The shards of a recipe's data.
struct PreparedData {
  std::array<std::vector<Source>, kSides> sides;  // by Side: one source each, those without pairs left out
  std::uint64_t fingerprint = 0;                  // of sources, split and tokenizer

  /// What a run over `part` trains on: base, re-fine-tune, both or neither, and what is given.
  std::vector<Source> training(DataPart part) const;
  const std::vector<Source>& side(Side side) const { return sides[static_cast<std::size_t>(side)]; }
  Index pairs(Side side) const;
  /// Whether any pair of any side is simulated.
  bool simulated() const;
};

/// Opens the shards in `folder`/shards-FINGERPRINT, making them first where they are not there.
PreparedData prepare_data(const DataConfig& config, const Tokenizer& tokenizer, const std::filesystem::path& folder);

}  // namespace unfurl::train
