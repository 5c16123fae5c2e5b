// What a run leaves beside its checkpoints: run.json, and its report.
#pragma once
#include <filesystem>

#include "train/recipe/recipe.h"
#include "train/trainer/placement.h"
#include "train/trainer/run_state.h"
#include "train/trainer/step.h"

namespace unfurl::train {

struct RunFigures {
  Index parameters = 0, trained = 0;
  bool finished = false;
  Index saved = -1;    // the step of the last checkpoint
  double seconds = 0;  // of training
  Placement placement;
  int ranks = 1;
  Communication communication;  // of this session
};

/// How far the run is, which checkpoint is best, memory and time. Throws Error where it cannot be written.
void write_run_json(const std::filesystem::path& folder, const Recipe& recipe, const RunState& state,
                    const RunFigures& figures);

/// report.html, from metrics.jsonl. Throws as write_run_json does.
void write_run_report(const std::filesystem::path& folder, const Recipe& recipe, const RunState& state,
                      Index parameters, double seconds);

}  // namespace unfurl::train
