// Models and controls judged by the images of their prompts.
//
// In the folder of a judgement:
//
//   expansions.jsonl   the prompts of every system for every query; a killed judgement goes on from it
//   images/            the image side's answers (its cache)
//   few_shot/          the language model's answers, where one is judged
//   image_files.jsonl  where the side keeps the images of every system and query, if it keeps them
//   queries.jsonl      the metrics of every system on every query: what --combine and other programs read
//   judge.json         the estimates with their intervals
//   judge.txt, report.html
#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "train/image_side/image_side.h"
#include "train/recipe/recipe.h"

namespace unfurl::train {

struct JudgeSettings {
  std::vector<std::filesystem::path> runs;  // at least one
  JudgeConfig config;
  SampleConfig samples;  // how the models draw
  std::uint64_t seed = 1;
  std::filesystem::path folder;
};

/// Judges, writes the folder and prints the tables. Throws UserError for runs or queries that cannot be read, Error
/// where the image side fails; then what was done is kept.
void judge(const JudgeSettings& settings);

/// Judgements of several worlds and training seeds as one: the unit is the world and seed, and hypotheses are tested
/// over units first, then queries. `folders` are those of judgements with the same systems.
void combine_judgements(const std::vector<std::filesystem::path>& folders, const std::vector<HypothesisConfig>& asked,
                        const JudgeConfig& config, std::uint64_t seed, const std::filesystem::path& folder);

/// What a recipe says of an image side; answers are kept in `cache` where it names no folder.
ImageSideConfig image_side_config(const ImageSideRecipe& recipe, const std::filesystem::path& cache);

}  // namespace unfurl::train
