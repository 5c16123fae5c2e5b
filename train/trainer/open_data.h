// What a run trains on: its tokenizer, its pairs or texts, and batches of them.
#pragma once
#include <filesystem>
#include <memory>
#include <vector>

#include "train/data/loader.h"
#include "train/data/prepare.h"
#include "train/data/tokenizer.h"
#include "train/recipe/recipe.h"

namespace unfurl::train {

struct TrainingData {
  std::filesystem::path tokenizer_path;
  std::shared_ptr<const Tokenizer> tokenizer;
  PreparedData prepared;
  std::vector<Source> validation_sources;
  std::unique_ptr<BatchLoader> loader;
  std::unique_ptr<FixedBatches> validation;  // null where there is nothing to validate on
};

struct OpenDataSettings {
  bool fresh = false;  // the tokenizer that an older run has left is made anew
  bool first = true;   // of the ranks, this one makes what is to be made once
};

/// Opens, and where need be makes, what the recipe names; sets recipe.model.vocab_size. Throws UserError for data and
/// tokenizers that do not fit it.
TrainingData open_data(Recipe& recipe, const OpenDataSettings& settings);

}  // namespace unfurl::train
