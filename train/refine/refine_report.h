// What the filter of a re-fine-tuning did, for people and programs.
#pragma once
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "train/refine/scores.h"
#include "train/refine/select.h"

namespace unfurl::train {

struct RefineSummary {
  std::size_t queries = 0, unexpanded = 0;   // without a prompt
  std::size_t prompts = 0, not_ended = 0;    // all; those left out because the model did not end them
  std::span<const ScoredPrompt> candidates;  // what the filter chose from
  std::vector<double> scores;                // of each; empty where the selection needs none
  Selection selection;
  std::string image_side;        // "" where none was asked
  bool simulated = false;        // the image side
  bool simulated_pairs = false;  // the queries' pairs, or what the model that expanded them has seen
};

/// Writes refine.json and refine.html into the folder and prints the counts.
void write_refine_report(const RefineSummary& summary, const RefineRecipe& config, const std::string& name,
                         const std::filesystem::path& folder);

}  // namespace unfurl::train
