#include "train/trainer/evaluate_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "train/corpus/baselines.h"
#include "train/data/prepare.h"
#include "train/generate/tokenizer_codec.h"
#include "train/log.h"
#include "train/model/open_session.h"
#include "train/trainer/load_run.h"
#include "train/trainer/placement.h"

namespace unfurl::train {
namespace {

/// A run with the pairs it is judged on.
struct OpenRun {
  LoadedRun run;
  Recipe recipe;  // the run's own, with what was set over it
  std::vector<Source> training, held_out;
};

/// A path of a run's recipe, as it is or, for a program that was started elsewhere, from a folder above the run.
std::filesystem::path found_from(const std::filesystem::path& run, const std::filesystem::path& path) {
  if (path.is_absolute() || std::filesystem::exists(path)) return path;
  for (std::filesystem::path above = std::filesystem::absolute(run).lexically_normal(); above.has_relative_path();
       above = above.parent_path()) {
    if (std::filesystem::exists(above / path)) return above / path;
  }
  return path;
}

OpenRun open_run(const std::filesystem::path& path, const std::vector<std::string>& sets,
                 const std::filesystem::path& pairs) {
  OpenRun out{load_run(path), {}, {}, {}};
  const std::filesystem::path folder = std::filesystem::absolute(out.run.checkpoint).lexically_normal().parent_path();
  Recipe own = out.run.recipe;
  own.device = DeviceChoice::automatic;  // where it was trained need not be here
  own.precision = Precision::automatic;
  Node node = parse_yaml(dump_recipe(own), (out.run.checkpoint / "state.json").string());
  for (const std::string& set : sets) {
    const auto is_of = [&](const char* key) { return set.starts_with(key); };
    if (!is_of("eval.") && !is_of("samples.") && !is_of("data.") && !is_of("device=") && !is_of("precision=")) {
      user_error("--set {}: of a trained model only device, precision and keys of eval, samples and data can be set",
                 set);
    }
    set_value(node, set);
  }
  out.recipe = bind_recipe(node, out.run.checkpoint.string());
  for (SourceConfig& source : out.recipe.data.sources) source.path = found_from(folder, source.path).string();
  const DataConfig& data_config = out.recipe.data;
  PreparedData data;
  const bool have_data = std::all_of(data_config.sources.begin(), data_config.sources.end(),
                                     [](const SourceConfig& source) { return std::filesystem::exists(source.path); });
  if (!have_data && !pairs.empty()) {
    warn("the run's own data are not here: what of {} training has seen is not known", pairs.string());
  } else if (!data_config.sources.empty()) {
    data = prepare_data(data_config, *out.run.tokenizer, folder.parent_path());
    out.training = data.training(data_config.part);
  }
  if (pairs.empty()) {
    const SplitSide side = out.recipe.eval.side;
    out.held_out = side == SplitSide::train        ? out.training
                   : side == SplitSide::validation ? data.side(Side::validation)
                                                   : data.side(Side::test);
  } else {
    DataConfig only = data_config;
    only.sources = {{pairs.string(), 1}};
    only.split.train = only.split.validation = 0;
    only.split.test = 1;
    out.held_out = prepare_data(only, *out.run.tokenizer, folder.parent_path()).side(Side::test);
  }
  if (out.held_out.empty()) {
    user_error("{} has no pairs to evaluate on; name a file with --pairs, or set eval.side", folder.string());
  }
  return out;
}

}  // namespace

RunEvaluation evaluate_run(const std::filesystem::path& path, const std::vector<std::string>& sets,
                           const std::filesystem::path& pairs) {
  const auto [run, recipe, training, sources] = open_run(path, sets, pairs);
  const Placement placement = placement_of(recipe);
  RunEvaluation out;
  out.name = recipe.name;
  out.checkpoint = run.checkpoint;
  EvalSettings settings;
  settings.loader.tokens = recipe.batch.tokens;
  settings.loader.max_documents = recipe.batch.documents;
  settings.loader.context = std::min(recipe.data.context, recipe.batch.tokens);
  settings.loader.prefix = recipe.prefix.mode == PrefixPolicy::always ? PrefixMode::always : PrefixMode::none;
  settings.max_pairs = recipe.eval.pairs;
  settings.unconditional = recipe.data.unconditional_share > 0;
  settings.ngram = recipe.eval.ngram;
  settings.seen_share = recipe.eval.seen_share;
  out.likelihood = evaluate(*run.decoder, *run.tokenizer, sources, training, settings);

  if (recipe.eval.queries > 0) {
    const LoadedRun there = placement.device == Device::cpu ? LoadedRun() : load_run(run.checkpoint, placement);
    const std::unique_ptr<LanguageModel> session = open_session(there.decoder ? *there.decoder : *run.decoder);
    const TokenizerCodec codec(run.tokenizer);
    Expander expander(*session, codec);
    ExpandSettings sampling = expand_settings(recipe.samples, recipe.seed);
    sampling.prefix.clear();  // the samples' prefix is for show
    out.sampled = sample_queries(expander, sources, training, sampling, recipe.eval.queries);
  }
  return out;
}

BaselineEvaluation evaluate_baselines(const std::filesystem::path& path, const std::vector<std::string>& sets) {
  const OpenRun open = open_run(path, sets, {});
  std::set<std::string> training;
  for (const Source& source : open.training) {
    for (Index i = 0; i < source.shard->size(); ++i) {
      if (source.shard->type(i) != "copy") training.emplace(source.shard->prompt(i));
    }
  }
  std::map<std::string, Pair> first, concrete;  // by prompt
  for (const Source& source : open.held_out) {
    for (Index i = 0; i < source.shard->size(); ++i) {
      const Pair pair = source.shard->pair(i);
      if (pair.type == "copy" || !pair.prompt.starts_with(pair.query)) continue;
      first.emplace(pair.prompt, pair);
      if (pair.type == "concrete") concrete.emplace(pair.prompt, pair);
    }
  }
  std::vector<Pair> test;
  for (const auto& [prompt, pair] : concrete.empty() ? first : concrete) test.push_back(pair);
  const std::vector<std::string> lines(training.begin(), training.end());
  BaselineEvaluation out;
  out.training_prompts = static_cast<Index>(lines.size());
  out.prompts = static_cast<Index>(test.size());
  out.xz = xz_baseline(lines, test).bits_per_byte();
  out.ngram = ngram_baseline(lines, test).bits_per_byte();
  return out;
}

}  // namespace unfurl::train
