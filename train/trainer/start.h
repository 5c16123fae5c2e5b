// What weights a run starts with.
#pragma once
#include <filesystem>

#include "train/data/tokenizer.h"
#include "train/model/decoder.h"
#include "train/recipe/recipe.h"

namespace unfurl::train {

/// Initial weights by the recipe's seed or, where it has a start, those of that checkpoint. A checkpoint of the same
/// method goes on: its soft prompt or low-rank matrices are taken over. Low-rank matrices of another shape, or where
/// the recipe's method is another, are merged into the matrices they are for. A new soft prompt starts from embeddings
/// of common pieces. Throws UserError for a checkpoint of another tokenizer or shape, or one whose soft prompt would be
/// lost. Returns whether that checkpoint has seen simulated pairs.
bool start_weights(Decoder& decoder, const Recipe& recipe, const Tokenizer& tokenizer,
                   const std::filesystem::path& tokenizer_path);

}  // namespace unfurl::train
