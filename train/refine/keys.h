// What of a recipe decides a step's result, as texts to be hashed.
#pragma once
#include <cstdint>
#include <string>

#include "train/recipe/recipe.h"

namespace unfurl::train {

/// Of the sources' bytes and the split.
std::uint64_t data_hash(const DataConfig& data);

/// How prompts are drawn: the keys of `samples` without those that only say what is shown.
std::string sampling_keys(SampleConfig samples);

/// The keys of `refine` that decide which of the scored pairs are kept.
std::string filter_keys(RefineRecipe refine);

}  // namespace unfurl::train
