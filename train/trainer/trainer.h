// Trains one stage: data + start + policy, as a recipe says.
#pragma once
#include <filesystem>

#include "core/comm/communicator.h"
#include "kernels/types.h"
#include "train/recipe/recipe.h"

namespace unfurl::train {

struct TrainSettings {
  bool fresh = false;             // starts over where the output folder holds a run
  bool profile = false;           // writes OUTPUT/trace.json of the first steps of this session
  Communicator* ranks = nullptr;  // that train together, all with the same recipe; null: one rank
};

struct TrainOutcome {
  Index step = 0;  // steps done
  Index best_step = 0;
  double best_loss = 0;   // of the validations, nats a target
  bool finished = false;  // all steps, or stopped early by the recipe's rule
  int exit_code = 0;      // 130 or 143 where a signal stopped it
};

/// Trains until the recipe's end, a signal (checkpoint, then return) or a failure. A run that was stopped goes on from
/// its newest checkpoint, with the bits of one that was not. The folder `recipe.output` then holds
///
///   step-N/         the newest checkpoints and the best one
///   run.json        how far the run is, which checkpoint is best, memory and time
///   metrics.jsonl   one line a step, a validation, a sample
///   report.html     all of it as one page
///   recipe.yaml     the resolved recipe
///
/// Where ranks train together, each calls it, and all return or throw. Throws UserError for data, tokenizer, start or
/// an older run in the folder that do not fit the recipe.
TrainOutcome train_stage(Recipe recipe, const TrainSettings& settings = {});

}  // namespace unfurl::train
