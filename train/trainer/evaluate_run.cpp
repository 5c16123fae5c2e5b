#include "train/trainer/evaluate_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "train/corpus/baselines.h"
#include "train/data/prepare.h"
#include "train/generate/tokenizer_codec.h"
#include "train/log.h"
#include "train/model/session.h"
#include "train/report/progress.h"
#include "train/trainer/load_run.h"

namespace unfurl::train {
namespace {

Json to_json(const EvalTotals& totals) {
  Json out = Json::object();
  out["pairs"] = totals.pairs;
  out["opening_with_query"] = totals.opening;
  out["truncated"] = totals.truncated;
  out["targets"] = totals.targets;
  out["bytes"] = totals.bytes;
  out["loss"] = totals.loss();
  out["perplexity"] = totals.perplexity();
  out["bits_per_byte"] = totals.free();
  out["bits_per_byte_forced"] = totals.forced();
  out["bits_per_byte_after"] = totals.after();
  return out;
}

std::string figure(double value, bool known) { return known ? fmt::format("{:.4f}", value) : "n/a"; }
std::string percent(double share, bool known) { return known ? fmt::format("{:.1f} %", 100 * share) : "n/a"; }

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
  Node node = parse_yaml(dump_recipe(out.run.recipe), (out.run.checkpoint / "state.json").string());
  for (const std::string& set : sets) {
    if (!set.starts_with("eval.") && !set.starts_with("samples.") && !set.starts_with("data.")) {
      user_error("--set {}: of a trained model only keys of eval, samples and data can be set", set);
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
    DecoderSession session(*run.decoder);
    const TokenizerCodec codec(run.tokenizer);
    Expander expander(session, codec);
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

Json to_json(const RunEvaluation& evaluation) {
  const EvalResult& found = evaluation.likelihood;
  Json out = Json::object();
  out["name"] = evaluation.name;
  out["checkpoint"] = evaluation.checkpoint.string();
  out["all"] = to_json(found.all);
  out["all"]["without_type"] = "copy";
  out["unseen"] = to_json(found.unseen);
  for (const EvalGroup& group : found.types) out["types"][group.name] = to_json(group.totals);
  if (found.has_unconditional) out["unconditional"] = to_json(found.unconditional);
  const SampledResult& s = evaluation.sampled;
  if (s.samples > 0) {
    Json sampled = Json::object();
    sampled["queries"] = s.queries;
    sampled["samples"] = s.samples;
    sampled["ended_share"] = s.ended_share();
    sampled["different"] = s.different;
    sampled["words"] = s.words;
    sampled["query_words_kept_share"] = s.kept_share();
    sampled["new_word_queries"] = s.new_queries;
    sampled["new_word_queries_kept_share"] = s.new_kept_share();
    out["sampled"] = std::move(sampled);
  }
  return out;
}

std::vector<std::vector<std::string>> comparison_table(const std::vector<RunEvaluation>& runs) {
  std::vector<std::vector<std::string>> rows = {{"model", "pairs", "loss", "perplexity", "free", "forced",
                                                 "after query", "after, unseen", "alone", "ended", "words kept",
                                                 "new words kept"}};
  for (const RunEvaluation& run : runs) {
    const EvalResult& r = run.likelihood;
    const SampledResult& s = run.sampled;
    rows.push_back({run.name, grouped(r.all.pairs), figure(r.all.loss(), true),
                    fmt::format("{:.2f}", r.all.perplexity()), figure(r.all.free(), true), figure(r.all.forced(), true),
                    figure(r.all.after(), r.all.opening > 0), figure(r.unseen.after(), r.unseen.opening > 0),
                    figure(r.unconditional.free(), r.has_unconditional), percent(s.ended_share(), s.samples > 0),
                    percent(s.kept_share(), s.samples > 0), percent(s.new_kept_share(), s.new_queries > 0)});
  }
  return rows;
}

std::vector<std::vector<std::string>> type_table(const RunEvaluation& run) {
  std::vector<std::vector<std::string>> rows = {
      {"type of query", "pairs", "perplexity", "free", "forced", "after query"}};
  const auto add = [&](const std::string& name, const EvalTotals& t) {
    rows.push_back({name, grouped(t.pairs), fmt::format("{:.2f}", t.perplexity()), figure(t.free(), t.pairs > 0),
                    figure(t.forced(), t.pairs > 0), figure(t.after(), t.opening > 0)});
  };
  for (const EvalGroup& group : run.likelihood.types) add(group.name, group.totals);
  add("all but copy", run.likelihood.all);
  return rows;
}

std::string text_table(const std::vector<std::vector<std::string>>& rows) {
  std::vector<std::size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()), 0);
    for (std::size_t c = 0; c < row.size(); ++c) widths[c] = std::max(widths[c], row[c].size());
  }
  std::string out;
  for (const auto& row : rows) {
    for (std::size_t c = 0; c < row.size(); ++c) {
      out += c == 0 ? fmt::format("{:<{}}", row[c], widths[c]) : fmt::format("  {:>{}}", row[c], widths[c]);
    }
    out += '\n';
  }
  return out;
}

}  // namespace unfurl::train
