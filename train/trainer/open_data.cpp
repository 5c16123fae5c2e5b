#include "train/trainer/open_data.h"

#include <algorithm>

#include "core/error.h"
#include "core/names.h"
#include "train/data/denoise.h"
#include "train/log.h"
#include "train/trainer/checkpoint.h"

namespace unfurl::train {
namespace {

namespace fs = std::filesystem;

/// The tokenizer of the run: the recipe's, else that of the checkpoint it starts from, else one made from its data,
/// which a run that goes on keeps.
fs::path tokenizer_path(const Recipe& recipe, const OpenDataSettings& settings) {
  if (!recipe.tokenizer.path.empty()) return recipe.tokenizer.path;
  if (!recipe.start.empty()) return resolve_checkpoint(recipe.start) / "tokenizer.model";
  const fs::path own = fs::path(recipe.output) / "tokenizer.model";
  if (settings.first && (settings.fresh || !fs::exists(own) || checkpoint_steps(recipe.output).empty()))
    train_tokenizer(recipe, own);
  return own;
}

}  // namespace

TrainingData open_data(Recipe& recipe, const OpenDataSettings& settings) {
  TrainingData data;
  data.tokenizer_path = tokenizer_path(recipe, settings);
  data.tokenizer = std::make_shared<const Tokenizer>(data.tokenizer_path);
  const Tokenizer& tokenizer = *data.tokenizer;
  if (recipe.model.vocab_size != 0 && recipe.model.vocab_size != tokenizer.vocab_size()) {
    user_error("model.vocab_size is {}, but the tokenizer {} has {} pieces; leave model.vocab_size out",
               recipe.model.vocab_size, data.tokenizer_path.string(), tokenizer.vocab_size());
  }
  recipe.model.vocab_size = tokenizer.vocab_size();
  data.prepared = prepare_data(recipe.data, tokenizer, fs::path(recipe.output).parent_path());
  LoaderConfig config;
  config.tokens = recipe.batch.tokens;
  config.max_documents = recipe.batch.documents;
  config.context = std::min(recipe.data.context, recipe.batch.tokens);
  config.soft_rows = recipe.model.soft_rows();
  config.objective = recipe.data.objective;
  config.sentinels = tokenizer.sentinels();
  if (const Index needed = sentinels_needed(config.objective, config.context); needed > config.sentinels) {
    user_error(
        "objective ul2 with sequences of {} tokens takes {} sentinels, the tokenizer {} has {}; train one with "
        "tokenizer.sentinels: {}",
        config.context, needed, data.tokenizer_path.string(), config.sentinels, needed);
  }
  config.seed = static_cast<std::uint64_t>(recipe.seed);
  config.subword_sampling = recipe.data.subword_sampling;
  config.prefix = recipe.prefix.mode == PrefixPolicy::none     ? PrefixMode::none
                  : recipe.prefix.mode == PrefixPolicy::always ? PrefixMode::always
                                                               : PrefixMode::dropout;
  const Index held_out = data.prepared.pairs(Side::validation) + data.prepared.pairs(Side::test);
  const Index training =
      data.prepared.pairs(Side::base) + data.prepared.pairs(Side::refine) + data.prepared.pairs(Side::given);
  require_training_pairs(training, held_out);
  data.loader = std::make_unique<BatchLoader>(data.tokenizer, data.prepared.training(recipe.data.part), config);
  if (data.loader->truncated() > 0) {
    const char* const are = data.loader->truncated() == 1 ? "is" : "are";
    warn("{} of {} {} {} longer than the context of {} and {} cut", data.loader->truncated(), data.loader->examples(),
         plural(data.loader->examples(), "pair"), are, config.context, are);
  }
  data.validation_sources = data.prepared.side(Side::validation);
  if (data.validation_sources.empty() && recipe.data.split.validation > 0) {
    warn("no pairs to validate on: all {} fell on the other sides; set data.split.validation, or give more pairs",
         training + held_out);
  }
  if (!data.validation_sources.empty())
    data.validation = std::make_unique<FixedBatches>(data.validation_sources, config);
  return data;
}

}  // namespace unfurl::train
