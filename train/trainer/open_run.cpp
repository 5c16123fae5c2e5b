#include "train/trainer/open_run.h"

#include <algorithm>

#include "train/data/prepare.h"
#include "train/log.h"

namespace unfurl::train {
namespace {

/// A path of a run's recipe, as it is or, for a program that was started elsewhere, from a folder above the run.
std::filesystem::path found_from(const std::filesystem::path& run, const std::filesystem::path& path) {
  if (path.is_absolute() || std::filesystem::exists(path)) return path;
  for (std::filesystem::path above = std::filesystem::absolute(run).lexically_normal(); above.has_relative_path();
       above = above.parent_path()) {
    if (std::filesystem::exists(above / path)) return above / path;
  }
  return path;
}

}  // namespace

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
  if (out.recipe.data.objective != Objective::pairs) {
    if (pairs.empty()) {
      user_error(
          "{} was pre-trained on plain text, which is judged by its validation loss alone; name pairs to evaluate "
          "it on with --pairs",
          folder.string());
    }
    out.recipe.data.objective = Objective::pairs;
    out.recipe.data.sources.clear();
  }
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

}  // namespace unfurl::train
