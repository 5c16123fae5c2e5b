// unfurl run: the stages of a pipeline, one after the other; what is done already is skipped.
#include <fmt/format.h>

#include <algorithm>

#include "core/comm/communicator.h"
#include "core/files.h"
#include "core/json.h"
#include "core/names.h"
#include "train/commands.h"
#include "train/commands/run_command.h"
#include "train/corpus/commands.h"
#include "train/data/prepare.h"
#include "train/generate/tokenizer_codec.h"
#include "train/judge/judge.h"
#include "train/log.h"
#include "train/model/open_session.h"
#include "train/recipe/pipeline.h"
#include "train/refine/multi_step.h"
#include "train/refine/refine.h"
#include "train/report/html_report.h"
#include "train/report/progress.h"
#include "train/trainer/checkpoint.h"
#include "train/trainer/evaluate_run.h"
#include "train/trainer/evaluation_report.h"
#include "train/trainer/load_run.h"
#include "train/trainer/placement.h"
#include "train/trainer/trainer.h"

namespace unfurl::train {
namespace {

namespace fs = std::filesystem;

constexpr const char* kStamp = "stage.json";

/// What a stage was made from: its keys and its inputs. The stamp of an input that is itself a stage's folder stands
/// for that folder.
std::string stamp_of(const Stage& stage) {
  Json stamp = Json::object();
  stamp["stage"] = stage.name;
  stamp["recipe"] = fmt::format("{:016x}", stage_hash(stage));
  stamp["inputs"] = Json::object();
  for (const std::string& input : stage_inputs(stage)) {
    if (input.empty()) continue;
    const fs::path path = input;
    fs::path read = path;
    for (const fs::path& stamped :
         {path / kStamp, path.parent_path() / kStamp, path / "run.json", path / "state.json"}) {
      if (fs::is_regular_file(stamped)) {
        read = stamped;
        break;
      }
    }
    stamp["inputs"][input] = fmt::format("{:016x}", hash_bytes(MappedFile(read).text()));
  }
  return stamp.dump(2) + "\n";
}

bool has_outputs(const Stage& stage) {
  const fs::path folder = stage.recipe.output;
  switch (stage.kind) {
    case StageKind::synth:
      return fs::exists(folder / "pairs.jsonl") && fs::exists(folder / "heldout.jsonl");
    case StageKind::pairs:
      return fs::exists(folder / "pairs.jsonl");
    case StageKind::split:
      return true;
    case StageKind::tokenizer:
      return fs::exists(folder / "tokenizer.model");
    case StageKind::refine:
      if (!fs::exists(folder / "kept.jsonl")) return false;
      [[fallthrough]];
    case StageKind::pretrain:
    case StageKind::train:
      return fs::exists(folder / "run.json") && !checkpoint_steps(folder).empty();
    case StageKind::multi_step:
      return fs::exists(folder / "pairs.jsonl");
    case StageKind::expand:
      return fs::exists(folder / "expansions.txt");
    case StageKind::eval:
      return fs::exists(folder / "eval.json");
    case StageKind::judge:
      return fs::exists(folder / "judge.json");
    case StageKind::command:
      return true;
  }
  return false;
}

bool is_done(const Stage& stage, const std::string& stamp) {
  const fs::path path = fs::path(stage.recipe.output) / kStamp;
  return fs::is_regular_file(path) && read_file(path) == stamp && has_outputs(stage);
}

std::vector<std::vector<std::string>> expansion_lines(const Stage& stage, std::string& text) {
  std::vector<std::vector<std::string>> rows;
  for (const std::string& path : stage.runs) {
    const LoadedRun run = load_run(path, placement_of(stage.recipe));
    const std::unique_ptr<LanguageModel> session = open_session(*run.decoder);
    const TokenizerCodec codec(run.tokenizer);
    Expander expander(*session, codec);
    const SampleConfig& config = stage.recipe.samples;
    const ExpandSettings settings = expand_settings(config, stage.recipe.seed);
    const std::string name = run.recipe.name + (run.simulated ? " (simulated data)" : "");
    text += fmt::format("\n{}\n", name);
    for (const std::string& query : config.queries) {
      text += fmt::format("  {}\n", query);
      for (const Expansion& expansion : expand_or_return(expander, query, settings).items) {
        text += fmt::format("    - {}\n", expansion.text);
        rows.push_back({name, query, expansion.text});
      }
    }
  }
  return rows;
}

void run_expand_stage(const Stage& stage) {
  std::string text;
  const auto rows = expansion_lines(stage, text);
  write_file(fs::path(stage.recipe.output) / "expansions.txt", text);
  HtmlReport report("unfurl: " + stage.name, "expansions by each model");
  report.add_table("Expansions", {"model", "query", "expansion"}, rows);
  report.write(fs::path(stage.recipe.output) / "report.html");
  fmt::print("{}\n", text);
  std::fflush(stdout);
}

void run_eval_stage(const Stage& stage) {
  if (stage.runs.empty())
    user_error("the stage \"{}\" has no runs to evaluate; list them under its key runs", stage.name);
  const EvalConfig& config = stage.recipe.eval;
  const std::vector<std::string> sets = {fmt::format("eval.pairs={}", config.pairs),
                                         fmt::format("eval.queries={}", config.queries),
                                         "eval.side=" + to_string(config.side),
                                         fmt::format("samples.n={}", stage.recipe.samples.n),
                                         fmt::format("samples.diverse={}", stage.recipe.samples.diverse),
                                         fmt::format("samples.max_tokens={}", stage.recipe.samples.max_tokens),
                                         fmt::format("samples.temperature={}", stage.recipe.samples.temperature),
                                         fmt::format("samples.top_p={}", stage.recipe.samples.top_p),
                                         "device=" + to_string(stage.recipe.device),
                                         "precision=" + to_string(stage.recipe.precision)};
  std::vector<RunEvaluation> runs;
  Json json = Json::array();
  for (const std::string& path : stage.runs) {
    runs.push_back(evaluate_run(path, sets));
    json.push_back(to_json(runs.back()));
  }
  const auto table = comparison_table(runs);
  std::string text =
      "held-out bits per byte (opening: of the prompts that open with their query, as verbatim expansions do)\n" +
      text_table(table);
  const bool simulated = std::ranges::any_of(runs, &RunEvaluation::simulated);
  HtmlReport report("unfurl: " + stage.name + (simulated ? ": SIMULATED data" : ""),
                    "held-out bits per byte of each model");
  report.add_table("Models", table.front(), {table.begin() + 1, table.end()},
                   "Bits per byte: free, of the prompt given the query; forced, where the query's tokens cost nothing; "
                   "after, of what follows the query; unseen, prompts with under a quarter of their 6-grams in the "
                   "training prompts; alone, without a query. New words: of queries with a word that no training text "
                   "has.");
  const BaselineEvaluation plain = evaluate_baselines(stage.runs.back(), sets);
  const std::vector<std::vector<std::string>> baselines = {
      {"beside them, with the query free", "after query"},
      {"xz -9e, with the training prompts before", fmt::format("{:.4f}", plain.xz)},
      {"Kneser-Ney model of bytes, 5 of context", fmt::format("{:.4f}", plain.ngram)}};
  report.add_table(
      "Without a model", baselines.front(), {baselines.begin() + 1, baselines.end()},
      fmt::format("{} training {}, {} held-out {}, a pair each: the query is the prompt's content (type concrete where "
                  "the pairs have types).",
                  plain.training_prompts, plural(plain.training_prompts, "prompt"), plain.prompts,
                  plural(plain.prompts, "prompt")));
  text += '\n' + text_table(baselines);
  for (const RunEvaluation& run : runs) {
    const auto types = type_table(run);
    report.add_table(run.name + " by type of query", types.front(), {types.begin() + 1, types.end()});
    text += "\n" + run.name + "\n" + text_table(types);
  }
  const fs::path folder = stage.recipe.output;
  write_file(folder / "eval.json", json.dump(2) + "\n");
  write_file(folder / "eval.txt", text);
  report.write(folder / "report.html");
  fmt::print("{}\n", text);
  std::fflush(stdout);
}

/// Returns an exit code: 0, or that of a training run which a signal stopped. `fresh`: a run that is in the folder is
/// of no use. `everything`: nor is anything else; stages of several steps know which of theirs are.
int run_stage(const Stage& stage, bool fresh, bool everything) {
  const Recipe& recipe = stage.recipe;
  const fs::path folder = recipe.output;
  make_folder(folder);
  switch (stage.kind) {
    case StageKind::synth:
      run_corpus_synth({.pairs = recipe.data.pairs,
                        .seed = static_cast<std::uint64_t>(recipe.seed),
                        .out = folder,
                        .copy_share = recipe.data.copy_share,
                        .heldout_share = recipe.data.held_out_share});
      return 0;
    case StageKind::pairs:
      if (fs::path(recipe.data.prompts).extension() == ".jsonl") {  // of images, with captions and flavors
        run_corpus_extract_queries({.prompts = recipe.data.prompts,
                                    .out = folder / "pairs.jsonl",
                                    .bad_line_share = recipe.data.bad_line_share});
        return 0;
      }
      run_corpus_pairs({.prompts = recipe.data.prompts,
                        .out = folder / "pairs.jsonl",
                        .normalize = recipe.data.normalize,
                        .copy_share = recipe.data.copy_share,
                        .variants = static_cast<int>(recipe.data.queries_per_prompt),
                        .seed = static_cast<std::uint64_t>(recipe.seed),
                        .bad_line_share = recipe.data.bad_line_share});
      return 0;
    case StageKind::split: {
      const Split split = read_and_split(recipe.data).split;
      info("pairs in {} {}: {}", split.groups, plural(split.groups, "group"), sides_of(split));
      return 0;
    }
    case StageKind::tokenizer:
      train_tokenizer(recipe, folder / "tokenizer.model");
      return 0;
    case StageKind::pretrain:
    case StageKind::train:
      return train_stage(recipe, {.fresh = fresh}).exit_code;
    case StageKind::refine:
      return run_refine(recipe, everything);
    case StageKind::multi_step:
      run_multi_step(recipe, everything);
      return 0;
    case StageKind::expand:
      run_expand_stage(stage);
      return 0;
    case StageKind::eval:
      run_eval_stage(stage);
      return 0;
    case StageKind::command:
      for (const std::string& command : stage.commands) run_command(command);
      return 0;
    case StageKind::judge: {
      std::vector<fs::path> runs(stage.runs.begin(), stage.runs.end());
      judge({runs, recipe.judge, recipe.samples, static_cast<std::uint64_t>(recipe.seed), folder});
      return 0;
    }
  }
  return 0;
}

}  // namespace

int run_pipeline(const RunOptions& options) {
  if (ranks_of_environment() > 1) {
    if (!first_rank_of_host()) return 0;
    user_error(
        "unfurl run is one process, but mpirun has started several; train stages of their own with unfurl train");
  }
  const Pipeline pipeline = load_pipeline(options.recipe, options.sets);
  for (const std::string& name : options.only) {
    const bool known = std::any_of(pipeline.stages.begin(), pipeline.stages.end(),
                                   [&](const Stage& stage) { return stage.name == name; });
    if (!known) user_error("{} has no stage \"{}\"", options.recipe.string(), name);
  }
  const FolderLock lock(pipeline.output, ".pipeline.lock");  // a stage may hold the same folder
  write_file(fs::path(pipeline.output) / "pipeline.yaml", pipeline.resolved);
  for (const Stage& stage : pipeline.stages) {
    const bool wanted =
        options.only.empty() || std::find(options.only.begin(), options.only.end(), stage.name) != options.only.end();
    if (!wanted) continue;
    const std::string stamp = stamp_of(stage);
    if (!options.fresh && is_done(stage, stamp)) {
      info("[{}] done already", stage.name);
      continue;
    }
    info("[{}]", stage.name);
    // A run in the folder that was made from something else is of no use any more; one of the same may go on.
    const fs::path begun = fs::path(stage.recipe.output) / "begun.json";
    const bool goes_on = fs::is_regular_file(begun) && read_file(begun) == stamp;
    make_folder(stage.recipe.output);
    write_file(begun, stamp);
    if (const int code = run_stage(stage, options.fresh || !goes_on, options.fresh); code != 0) return code;
    write_file(fs::path(stage.recipe.output) / kStamp, stamp);
    fs::remove(begun);
  }
  return 0;
}

}  // namespace unfurl::train
