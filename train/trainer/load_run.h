// A trained model from its folder.
#pragma once
#include <filesystem>
#include <memory>

#include "core/json.h"
#include "train/data/tokenizer.h"
#include "train/generate/load.h"
#include "train/model/decoder.h"
#include "train/trainer/placement.h"

namespace unfurl::train {

struct LoadedRun {
  std::filesystem::path checkpoint;
  Recipe recipe;  // with model.vocab_size set
  std::shared_ptr<const Tokenizer> tokenizer;
  std::unique_ptr<Decoder> decoder;  // to generate with: lora is merged
  bool simulated = false;            // trained on simulated pairs, here or before
  bool without_prefixes = false;     // neither it nor what it starts from has seen one in training
};

/// The recipe that a checkpoint's state.json holds. Throws UserError where there is none.
Recipe recipe_of(const Json& state, const std::filesystem::path& checkpoint);

/// From a run folder (its best checkpoint, else its newest) or a checkpoint folder. Throws UserError where there is
/// none, or it is damaged. The model is without gradients.
LoadedRun load_run(const std::filesystem::path& path, const Placement& placement = {});

/// One line to the user, where no real images are behind it.
void say_if_simulated(const LoadedRun& run);

/// The same, ready to generate: what `expand` takes. `precision` is of a step's weights on the CPU.
LoadedModel load_model(const std::filesystem::path& path, const Placement& placement, DecodePrecision precision);

}  // namespace unfurl::train
