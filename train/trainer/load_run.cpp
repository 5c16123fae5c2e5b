#include "train/trainer/load_run.h"

#include "train/corpus/fields.h"
#include "train/generate/tokenizer_codec.h"
#include "train/model/merge.h"
#include "train/model/open_session.h"
#include "train/trainer/checkpoint.h"

namespace unfurl::train {
Recipe recipe_of(const Json& state, const std::filesystem::path& checkpoint) {
  const std::string where = (checkpoint / "state.json").string();
  const Json* recipe = state.find("recipe");
  if (recipe == nullptr || !recipe->is_string()) user_error("{} is damaged: it holds no recipe", where);
  return parse_recipe(recipe->as_string(), where);
}

LoadedRun load_run(const std::filesystem::path& path, const Placement& placement) {
  LoadedRun run;
  run.checkpoint = resolve_checkpoint(path);
  const Json state = verify_checkpoint(run.checkpoint);
  run.recipe = recipe_of(state, run.checkpoint);
  run.simulated = is_simulated(state);
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

LoadedModel load_model(const std::filesystem::path& path, const Placement& placement, DecodePrecision precision) {
  // A session together with the model it runs on.
  struct Owner {
    std::unique_ptr<Decoder> decoder;
    std::unique_ptr<LanguageModel> session;  // goes first
  };
  LoadedRun run = load_run(path, placement);
  const auto owner = std::make_shared<Owner>();
  owner->decoder = std::move(run.decoder);
  owner->session = open_session(*owner->decoder, precision);
  // What the weights that it started from had seen is not known here.
  const bool without_prefixes = run.recipe.prefix.mode == PrefixPolicy::none && run.recipe.start.empty();
  return {std::shared_ptr<LanguageModel>(owner, owner->session.get()), std::make_unique<TokenizerCodec>(run.tokenizer),
          run.recipe.name, without_prefixes, run.recipe.prefix.mode != PrefixPolicy::none};
}

}  // namespace unfurl::train
