#include "train/trainer/load_run.h"

#include "train/generate/tokenizer_codec.h"
#include "train/model/session.h"
#include "train/trainer/checkpoint.h"

namespace unfurl::train {
namespace {

/// A session together with the model it runs on.
class OwningSession : public DecoderSession {
 public:
  OwningSession(std::unique_ptr<Decoder> decoder, DecodePrecision precision)
      : DecoderSession(*decoder, precision), decoder_(std::move(decoder)) {}

 private:
  std::unique_ptr<Decoder> decoder_;
};

}  // namespace

Recipe recipe_of(const Json& state, const std::filesystem::path& checkpoint) {
  const std::string where = (checkpoint / "state.json").string();
  const Json* recipe = state.find("recipe");
  if (recipe == nullptr || !recipe->is_string()) user_error("{} is damaged: it holds no recipe", where);
  return parse_recipe(recipe->as_string(), where);
}

LoadedRun load_run(const std::filesystem::path& path) {
  LoadedRun run;
  run.checkpoint = resolve_checkpoint(path);
  const Json state = verify_checkpoint(run.checkpoint);
  run.recipe = recipe_of(state, run.checkpoint);
  run.tokenizer = std::make_shared<const Tokenizer>(run.checkpoint / "tokenizer.model");
  if (run.recipe.model.vocab_size != run.tokenizer->vocab_size()) {
    user_error("{}: the tokenizer has {} pieces, the model {}", run.checkpoint.string(), run.tokenizer->vocab_size(),
               run.recipe.model.vocab_size);
  }
  run.decoder = std::make_unique<Decoder>(run.recipe.model, DType::f32, Device::cpu, false);
  read_tensors(run.checkpoint / "model.safetensors", named_tensors(run.decoder->parameters()));
  return run;
}

LoadedModel load_model(const std::filesystem::path& path, DecodePrecision precision) {
  LoadedRun run = load_run(path);
  // What the weights that it started from had seen is not known here.
  const bool without_prefixes = run.recipe.prefix.mode == PrefixPolicy::none && run.recipe.start.empty();
  return {std::make_unique<OwningSession>(std::move(run.decoder), precision),
          std::make_unique<TokenizerCodec>(run.tokenizer), run.recipe.name, without_prefixes};
}

}  // namespace unfurl::train
