// A recipe that lists stages: the common keys, and for each stage what differs.
//
//   name: quickstart
//   model: {preset: palm-tiny}
//   data: {sources: [{path: $corpus/pairs.jsonl}]}
//   tokenizer: {path: $tokenizer/tokenizer.model}
//   stages:
//     - {name: corpus, kind: synth}
//     - {name: tokenizer, kind: tokenizer}
//     - {name: base, kind: train, data: {part: base}, train: {steps: 600}}
//     - {name: prefixes, kind: train, start: $base, train: {steps: 200}}
//     - {name: compare, kind: eval, runs: [$base, $prefixes]}
//
// A path that starts with "$NAME" is in the folder of the stage NAME: the pipeline's `output`/NAME, unless that stage
// says otherwise.
#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "train/recipe/recipe.h"

namespace unfurl::train {

enum class StageKind {
  synth,
  pairs,
  split,
  tokenizer,
  pretrain,
  train,
  refine,
  multi_step,
  expand,
  eval,
  judge,
  command
};
std::vector<std::string> names(StageKind);

struct Stage {
  std::string name;
  StageKind kind = StageKind::train;
  /// expand, eval, judge: the runs to look at; by default those of all training stages before.
  std::vector<std::string> runs;
  /// command: programs with their arguments, as a POSIX shell splits them, run one after the other. `unfurl` and
  /// `atelier` are this program and the one beside it; a word that starts with "$NAME" is in the folder of that stage,
  /// "$OUT" in this one's.
  std::vector<std::string> commands;
  std::vector<std::string> inputs;  // command: files and folders that they read
  Recipe recipe;                    // resolved: common keys, then the stage's; recipe.name is the stage's
};

struct Pipeline {
  std::string name;
  std::string output;  // the folder of the stages' folders
  std::vector<Stage> stages;
  std::string resolved;  // YAML of all keys of all stages, "$NAME" as written; load_pipeline reads it back
};

/// As load_recipe; `--set` reaches a stage by number or name: "stages.1.train.steps=5", "stages.base.train.steps=5".
/// Throws UserError for a stage without a kind, two stages of one name, a "$NAME" that is no stage, or one that is read
/// by a stage before it.
Pipeline load_pipeline(const std::filesystem::path& path, const std::vector<std::string>& sets = {});

/// True where the file (or one it extends) lists stages.
bool is_pipeline(const std::filesystem::path& path);

/// The files and folders that a stage of this kind reads.
std::vector<std::string> stage_inputs(const Stage& stage);

/// The same where the keys that matter to a stage of this kind are the same.
std::uint64_t stage_hash(const Stage& stage);

/// The keys of a stage beside those of the recipe: a YAML text with comments.
std::string document_stage();

}  // namespace unfurl::train
