#include "train/commands/export.h"

#include "core/json.h"
#include "train/log.h"
#include "train/trainer/checkpoint.h"
#include "train/trainer/checkpoint_writer.h"
#include "train/trainer/load_run.h"

namespace unfurl::train {

int run_export(const ExportOptions& options) {
  if (!checkpoint_steps(options.out).empty()) {
    user_error("{} holds checkpoints already; name another folder with --out", options.out.string());
  }
  const LoadedRun run = load_run(options.run);
  const Json state = verify_checkpoint(run.checkpoint, Checked::model);
  Recipe recipe = run.recipe;
  recipe.model.tuning = run.decoder->config().tuning;
  CheckpointContent content;
  content.step = state.at("step").as_integer();
  content.model = named_tensors(run.decoder->parameters());
  content.tokenizer = run.checkpoint / "tokenizer.model";
  content.state = Json::object();
  for (const auto& [key, value] : state.as_object()) {
    const bool of_the_files = key == "format" || key == "step" || key == "files" || key == kBuckets;
    if (!of_the_files) content.state[key] = value;
  }
  content.state["recipe"] = dump_recipe(recipe);
  Communicator alone;
  info("{} -> {}", run.checkpoint.string(), write_checkpoint(options.out, content, alone).string());
  return 0;
}

}  // namespace unfurl::train
