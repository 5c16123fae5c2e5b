#include "train/trainer/evaluate_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "train/corpus/baselines.h"
#include "train/generate/tokenizer_codec.h"
#include "train/model/open_session.h"
#include "train/trainer/open_run.h"
#include "train/trainer/placement.h"

namespace unfurl::train {
RunEvaluation evaluate_run(const std::filesystem::path& path, const std::vector<std::string>& sets,
                           const std::filesystem::path& pairs) {
  const auto [run, recipe, training, sources] = open_run(path, sets, pairs);
  say_if_simulated(run);
  const Placement placement = placement_of(recipe);
  RunEvaluation out;
  out.name = recipe.name;
  out.checkpoint = run.checkpoint;
  out.simulated = run.simulated;
  EvalSettings settings;
  settings.loader.tokens = recipe.batch.tokens;
  settings.loader.max_documents = recipe.batch.documents;
  settings.loader.context = std::min(recipe.data.context, recipe.batch.tokens);
  settings.loader.soft_rows = run.decoder->config().soft_rows();
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
