#include "train/trainer/start.h"

#include <algorithm>

#include "core/copy.h"
#include "train/corpus/fields.h"
#include "train/log.h"
#include "train/model/merge.h"
#include "train/trainer/checkpoint.h"
#include "train/trainer/load_run.h"

namespace unfurl::train {
namespace {

namespace fs = std::filesystem;

/// The commonest pieces, of which a soft prompt is made (Lester et al. draw from 5,000). A tokenizer's learnt pieces
/// stand in the order of learning, the most frequent first.
constexpr Index kCommonPieces = 5000;

bool goes_on(const TuningConfig& theirs, const TuningConfig& ours) {
  if (theirs.method != ours.method) return false;
  return ours.method != Method::lora || (theirs.lora.rank == ours.lora.rank && theirs.lora.alpha == ours.lora.alpha &&
                                         theirs.lora.targets == ours.lora.targets);
}

/// A soft prompt that is trained with one model is of no use to another.
void require_same_prompt(const fs::path& checkpoint, const TuningConfig& theirs, const TuningConfig& ours) {
  if (theirs.method != Method::prompt_tuning) return;
  const std::int64_t tokens = theirs.prompt_tuning.tokens;
  if (ours.method != Method::prompt_tuning) {
    user_error("{} has a soft prompt, which method {} would lose; set method: prompt_tuning, or start from its base",
               checkpoint.string(), to_string(ours.method));
  }
  if (ours.prompt_tuning.tokens != tokens) {
    user_error("{} has a soft prompt of {} tokens, the recipe one of {}; set prompt_tuning.tokens: {}",
               checkpoint.string(), tokens, ours.prompt_tuning.tokens, tokens);
  }
}

std::vector<NamedTensor> base_tensors(const Decoder& decoder) {
  std::vector<NamedTensor> out = named_tensors(decoder.parameters());
  std::erase_if(out, [](const NamedTensor& named) { return is_of_method(named.name); });
  return out;
}

void copy_base(const Decoder& from, const Decoder& to, const fs::path& checkpoint) {
  const std::vector<NamedTensor> theirs = base_tensors(from), ours = base_tensors(to);
  const bool same = std::ranges::equal(theirs, ours, [](const auto& a, const auto& b) {
    return a.name == b.name && a.tensor.shape() == b.tensor.shape();
  });
  if (!same) user_error("{} is of another configuration than model", checkpoint.string());
  for (std::size_t i = 0; i < ours.size(); ++i) copy_into(ours[i].tensor, theirs[i].tensor);
}

struct Before {
  bool has_prompt = false, simulated = false;
};

/// Only the weights are taken over: steps, optimiser and data begin anew.
Before start_from(Decoder& decoder, const TuningConfig& ours, const Tokenizer& tokenizer,
                  const fs::path& tokenizer_path, const fs::path& checkpoint) {
  const Json state = verify_checkpoint(checkpoint, Checked::model);
  if (Tokenizer(checkpoint / "tokenizer.model").fingerprint() != tokenizer.fingerprint()) {
    user_error("{} was trained with another tokenizer than {}; leave tokenizer.path out to use its own",
               checkpoint.string(), tokenizer_path.string());
  }
  const TuningConfig theirs = recipe_of(state, checkpoint).model.tuning;
  require_same_prompt(checkpoint, theirs, ours);
  if (goes_on(theirs, ours)) {
    read_tensors(checkpoint / "model.safetensors", named_tensors(decoder.parameters()));
  } else if (theirs.method == Method::lora) {
    copy_base(*load_run(checkpoint).decoder, decoder, checkpoint);
    info("the low-rank matrices of {} are merged into its weights", checkpoint.string());
  } else {
    read_tensors(checkpoint / "model.safetensors", base_tensors(decoder));
  }
  return {theirs.method == Method::prompt_tuning, is_simulated(state)};
}

}  // namespace

bool start_weights(Decoder& decoder, const Recipe& recipe, const Tokenizer& tokenizer, const fs::path& tokenizer_path) {
  const auto seed = static_cast<std::uint64_t>(recipe.seed);
  const TuningConfig& tuning = recipe.model.tuning;
  decoder.initialise(seed);
  Before before;
  if (!recipe.start.empty()) {
    const fs::path checkpoint = resolve_checkpoint(recipe.start);
    before = start_from(decoder, tuning, tokenizer, tokenizer_path, checkpoint);
    decoder.parameters().round_values();
    info("starts from {}", checkpoint.string());
  } else if (tuning.method != Method::full) {
    warn("method {} trains on a random model, which cannot learn much; set start to a trained one",
         to_string(tuning.method));
  }
  if (tuning.method == Method::prompt_tuning && !before.has_prompt) {
    const Index first = tokenizer.first_learnt();
    decoder.start_soft_prompt(first, std::min<Index>(kCommonPieces, tokenizer.vocab_size() - first), seed);
  }
  return before.simulated;
}

}  // namespace unfurl::train
