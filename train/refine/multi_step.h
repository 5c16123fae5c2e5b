// The stage "multi_step": pairs of a prompt and its further expansion.
//
//   step-1.jsonl, step-2.jsonl, ...   the prompts of each step (expansions.h): step 1 expands queries, samples.n
//                                     prompts each, step t each prompt of step t - 1, once
//   pairs.jsonl                       (prompt of step t, prompt of step t + 1), prefix MSTP
//   multi_step.json                   counts
//   steps.json                        what each was made from, as in refine.h
//
// The queries are those of the validation side (by default) or of a training half, never of the test side. A prompt
// that the model does not expand, or does not end, is the last of its chain.
#pragma once
#include "train/recipe/recipe.h"

namespace unfurl::train {

/// Runs the stage in recipe.output; with `fresh` from the beginning. Throws UserError where the side has no queries, or
/// no pair comes out.
void run_multi_step(const Recipe& recipe, bool fresh);

}  // namespace unfurl::train
