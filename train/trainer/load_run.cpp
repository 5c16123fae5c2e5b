#include "train/trainer/load_run.h"

#include "core/error.h"
#include "core/files.h"
#include "train/corpus/fields.h"
#include "train/generate/tokenizer_codec.h"
#include "train/log.h"
#include "train/model/merge.h"
#include "train/model/open_session.h"
#include "train/trainer/checkpoint.h"

namespace unfurl::train {
namespace {

constexpr int kMostStarts = 16;  // one behind the other: a circle ends

/// False as well where it starts from a run that is not here any more.
bool never_saw_prefixes(const Recipe& recipe, int starts) {
  if (recipe.prefix.mode != PrefixPolicy::none || starts == 0) return false;
  if (recipe.start.empty()) return true;
  const std::filesystem::path start = recipe.start, state = start / kStateFile, of_run = start / "recipe.yaml";
  try {
    const Recipe before = std::filesystem::exists(state) ? recipe_of(Json::parse(read_file(state)), start)
                                                         : parse_recipe(read_file(of_run), of_run.string());
    return never_saw_prefixes(before, starts - 1);
  } catch (const Error&) {
    return false;
  }
}

}  // namespace

Recipe recipe_of(const Json& state, const std::filesystem::path& checkpoint) {
  const std::string where = (checkpoint / "state.json").string();
  const Json* recipe = state.find("recipe");
  if (recipe == nullptr || !recipe->is_string()) user_error("{} is damaged: it holds no recipe", where);
  return parse_recipe(recipe->as_string(), where);
}

LoadedRun load_run(const std::filesystem::path& path, const Placement& placement) {
  LoadedRun run;
  run.checkpoint = resolve_checkpoint(path);
  const Json state = verify_checkpoint(run.checkpoint, Checked::model);
  run.recipe = recipe_of(state, run.checkpoint);
  run.simulated = is_simulated(state);
  run.without_prefixes = never_saw_prefixes(run.recipe, kMostStarts);
  run.tokenizer = std::make_shared<const Tokenizer>(run.checkpoint / "tokenizer.model");
  if (run.recipe.model.vocab_size != run.tokenizer->vocab_size()) {
    user_error("{}: the tokenizer has {} pieces, the model {}", run.checkpoint.string(), run.tokenizer->vocab_size(),
               run.recipe.model.vocab_size);
  }
  const bool low_rank = run.recipe.model.tuning.method == Method::lora;  // merged, on the CPU
  run.decoder = std::make_unique<Decoder>(run.recipe.model, low_rank ? DType::f32 : placement.dtype,
                                          low_rank ? Device::cpu : placement.device, false);
  read_tensors(run.checkpoint / "model.safetensors", named_tensors(run.decoder->parameters()));
  run.decoder->parameters().round_values();
  if (low_rank) run.decoder = merged(*run.decoder, placement.dtype, placement.device);
  return run;
}

void say_if_simulated(const LoadedRun& run) {
  if (run.simulated) info("{}: trained on SIMULATED data: no real images are behind it", run.recipe.name);
}

LoadedModel load_model(const std::filesystem::path& path, const Placement& placement, DecodePrecision precision) {
  // A session together with the model it runs on.
  struct Owner {
    std::unique_ptr<Decoder> decoder;
    std::unique_ptr<LanguageModel> session;  // goes first
  };
  LoadedRun run = load_run(path, placement);
  say_if_simulated(run);
  const auto owner = std::make_shared<Owner>();
  owner->decoder = std::move(run.decoder);
  owner->session = open_session(*owner->decoder, precision);
  return {std::shared_ptr<LanguageModel>(owner, owner->session.get()), std::make_unique<TokenizerCodec>(run.tokenizer),
          run.recipe.name, run.without_prefixes, run.recipe.prefix.mode != PrefixPolicy::none};
}

}  // namespace unfurl::train
