#include "train/trainer/evaluation_report.h"

#include <fmt/format.h>

#include <algorithm>

#include "train/report/progress.h"

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

}  // namespace

Json to_json(const RunEvaluation& evaluation) {
  const EvalResult& found = evaluation.likelihood;
  Json out = Json::object();
  out["name"] = evaluation.name;
  out["checkpoint"] = evaluation.checkpoint.string();
  if (evaluation.simulated) out["simulated"] = true;
  out["all"] = to_json(found.all);
  out["all"]["without_type"] = "copy";
  out["opening"] = to_json(found.opening);
  out["opening"]["without_type"] = "copy";
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
  const bool alone =
      std::any_of(runs.begin(), runs.end(), [](const RunEvaluation& run) { return run.likelihood.has_unconditional; });
  std::vector<std::vector<std::string>> rows = {{"model", "pairs", "loss", "perplexity", "free"}};
  if (alone) rows[0].push_back("alone");
  for (const char* column :
       {"opening: free", "forced", "after query", "after, unseen", "ended", "words kept", "new words kept"}) {
    rows[0].push_back(column);
  }
  for (const RunEvaluation& run : runs) {
    const EvalResult& r = run.likelihood;
    const SampledResult& s = run.sampled;
    const bool opening = r.opening.pairs > 0;
    rows.push_back({run.name, grouped(r.all.pairs), figure(r.all.loss(), true),
                    fmt::format("{:.2f}", r.all.perplexity()), figure(r.all.free(), true)});
    if (alone) rows.back().push_back(figure(r.unconditional.free(), r.has_unconditional));
    for (std::string& cell : std::vector<std::string>{
             figure(r.opening.free(), opening), figure(r.opening.forced(), opening), figure(r.opening.after(), opening),
             figure(r.unseen.after(), r.unseen.opening > 0), percent(s.ended_share(), s.samples > 0),
             percent(s.kept_share(), s.samples > 0), percent(s.new_kept_share(), s.new_queries > 0)}) {
      rows.back().push_back(std::move(cell));
    }
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
  add("opening", run.likelihood.opening);
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
