#include "train/judge/judge.h"
#include "core/error.h"
#include "train/commands.h"
#include "train/judge/sheet.h"
#include "train/recipe/pipeline.h"

namespace unfurl::train {
namespace {

/// The hypotheses of a recipe, or of the judging stages of one that lists stages.
std::vector<HypothesisConfig> hypotheses_of(const std::filesystem::path& path) {
  if (!is_pipeline(path)) return load_recipe(path).judge.hypotheses;
  std::vector<HypothesisConfig> out;
  for (const Stage& stage : load_pipeline(path).stages) {
    if (stage.kind != StageKind::judge) continue;
    out.insert(out.end(), stage.recipe.judge.hypotheses.begin(), stage.recipe.judge.hypotheses.end());
  }
  return out;
}

}  // namespace

int run_judge(const JudgeOptions& options) {
  JudgeConfig config = options.config;
  const auto seed = static_cast<std::uint64_t>(options.seed);
  if (!options.votes.empty()) {
    if (options.sheet.empty()) user_error("judge: --votes needs --sheet FOLDER, the judgement with the sheet's key");
    read_votes({options.sheet, options.votes, {seed, config.resamples, config.confidence}, options.json});
    return 0;
  }
  if (!options.sheet.empty()) {
    write_sheet({options.sheet, options.pair, options.rounds, seed});
    return 0;
  }
  if (options.out.empty()) user_error("judge: --out FOLDER is missing: where does the judgement go?");
  if (!options.hypotheses.empty()) config.hypotheses = hypotheses_of(options.hypotheses);
  if (!options.combine.empty()) {
    combine_judgements(options.combine, config.hypotheses, config, seed, options.out);
    return 0;
  }
  if (options.runs.empty()) user_error("judge: name the folder of a run, or judgements with --combine");
  judge({options.runs, config, options.samples, seed, options.out});
  return 0;
}

}  // namespace unfurl::train
