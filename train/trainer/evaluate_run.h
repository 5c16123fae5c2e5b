// One run judged on held-out pairs: likelihoods and samples.
#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "train/trainer/evaluate.h"
#include "train/trainer/sampled.h"

namespace unfurl::train {

struct RunEvaluation {
  std::string name;
  std::filesystem::path checkpoint;
  EvalResult likelihood;
  SampledResult sampled;   // samples 0: none were asked for
  bool simulated = false;  // the run has seen simulated pairs
};

/// Evaluates the run at `path` on the side of its data that recipe.eval names, or on all pairs of the file `pairs`
/// where it is not empty. `sets` are laid over the run's own recipe, whose device and precision do not count. Samples
/// are drawn where `device` says; likelihoods are of f32 on the CPU.
RunEvaluation evaluate_run(const std::filesystem::path& path, const std::vector<std::string>& sets,
                           const std::filesystem::path& pairs = {});

/// What compression and counting make of the same held-out prompts, with the query free: one pair a prompt, those of
/// type "concrete" (the query is the prompt's content), or where no pair has that type the first of each prompt.
struct BaselineEvaluation {
  Index training_prompts = 0, prompts = 0;
  double xz = 0, ngram = 0;  // bits per byte after the query
};
BaselineEvaluation evaluate_baselines(const std::filesystem::path& path, const std::vector<std::string>& sets);

}  // namespace unfurl::train
