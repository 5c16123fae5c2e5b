// The stage "refine": a model trains on those of its own expansions that score well.
//
//   expansions.jsonl   what the model at `start` says to the queries of the re-fine-tune half (expansions.h)
//   scores.jsonl       the terms of each prompt's score (terms.h), from the image side; its answers are in images/
//   kept.jsonl         the pairs that the filter keeps, with prefix RFT: what the model trains on
//   refine.json/html   counts, thresholds, a histogram of the scores
//   steps.json         what each of these was made from: a step whose input has changed is made again, others stay
//
// and then a training run in the same folder, on the kept pairs alone, from the checkpoint at `start`; it is validated
// on the validation side of the data. A stage that was killed goes on where it was.
#pragma once
#include "train/recipe/recipe.h"

namespace unfurl::train {

/// Runs the stage in recipe.output; with `fresh` from the beginning. Returns the exit code of the training. Throws
/// UserError for data that have no queries, an image side that is not given, or a filter that keeps nothing; Error
/// where the image side fails.
int run_refine(const Recipe& recipe, bool fresh);

}  // namespace unfurl::train
