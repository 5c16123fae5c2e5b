#include "train/refine/refine_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "core/files.h"
#include "core/json.h"
#include "core/names.h"
#include "train/report/html_report.h"

namespace unfurl::train {
namespace {

constexpr std::size_t kBins = 20;

struct Histogram {
  double from = 0, to = 0;
  std::vector<std::size_t> all, kept;  // of each of kBins bins
};

Histogram histogram_of(const RefineSummary& summary) {
  Histogram out{0, 0, std::vector<std::size_t>(kBins), std::vector<std::size_t>(kBins)};
  const auto [least, most] = std::minmax_element(summary.scores.begin(), summary.scores.end());
  out.from = *least;
  out.to = *most;
  const double width = (out.to - out.from) / kBins;
  std::size_t next = 0;
  for (std::size_t i = 0; i < summary.scores.size(); ++i) {
    const auto bin = width > 0 ? static_cast<std::size_t>((summary.scores[i] - out.from) / width) : 0;
    ++out.all[std::min(bin, kBins - 1)];
    while (next < summary.selection.kept.size() && summary.selection.kept[next] < i) ++next;
    const bool kept = next < summary.selection.kept.size() && summary.selection.kept[next] == i;
    if (kept) ++out.kept[std::min(bin, kBins - 1)];
  }
  return out;
}

struct TypeRow {
  std::size_t prompts = 0, kept = 0;
  double score = 0, kept_score = 0;  // sums
};

std::map<std::string, TypeRow> by_type(const RefineSummary& summary) {
  std::map<std::string, TypeRow> rows;
  const auto type_of = [&](std::size_t i) {
    const std::string& type = summary.candidates[i].query->type;
    return type.empty() ? std::string("unknown") : type;
  };
  const bool scored = !summary.scores.empty();
  for (std::size_t i = 0; i < summary.candidates.size(); ++i) {
    TypeRow& row = rows[type_of(i)];
    ++row.prompts;
    if (scored) row.score += summary.scores[i];
  }
  for (const std::size_t i : summary.selection.kept) {
    TypeRow& row = rows[type_of(i)];
    ++row.kept;
    if (scored) row.kept_score += summary.scores[i];
  }
  return rows;
}

double mean(double sum, std::size_t count) { return count > 0 ? sum / static_cast<double>(count) : 0; }

Json counts(const std::vector<std::size_t>& values) {
  Json out = Json::array();
  for (const std::size_t value : values) out.push_back(static_cast<std::int64_t>(value));
  return out;
}

/// One for all and those of types; of single queries only the range.
Json thresholds_of(const RefineSummary& summary, const RefineRecipe& config) {
  const std::vector<SelectionGroup>& groups = summary.selection.groups;
  if (groups.empty()) return Json();
  if (config.per == ThresholdScope::all) return groups[0].threshold;
  Json out = Json::object();
  if (config.per == ThresholdScope::type) {
    for (const SelectionGroup& group : groups) out[group.name.empty() ? "unknown" : group.name] = group.threshold;
    return out;
  }
  const auto [least, most] = std::minmax_element(
      groups.begin(), groups.end(), [](const auto& a, const auto& b) { return a.threshold < b.threshold; });
  out["least"] = least->threshold;
  out["most"] = most->threshold;
  return out;
}

}  // namespace

void write_refine_report(const RefineSummary& summary, const RefineRecipe& config, const std::string& name,
                         const std::filesystem::path& folder) {
  const auto number = [](std::size_t value) { return Json(static_cast<std::int64_t>(value)); };
  const std::size_t kept = summary.selection.kept.size();
  const double share = mean(static_cast<double>(kept), summary.candidates.size());
  const std::string side = summary.image_side.empty() ? "none was asked" : summary.image_side;
  Json json = Json::object();
  json["image_side"] = summary.image_side;
  json["simulated"] = summary.simulated || summary.simulated_pairs;
  json["pairs"] = to_string(config.pairs);
  json["select"] = to_string(config.select);
  json["queries"] = number(summary.queries);
  json["unexpanded"] = number(summary.unexpanded);
  json["prompts"] = number(summary.prompts);
  json["not_ended"] = number(summary.not_ended);
  json["candidates"] = number(summary.candidates.size());
  json["kept"] = number(kept);
  json["kept_share"] = share;

  HtmlReport report("unfurl: " + name + ": the pairs it trains on",
                    fmt::format("image side: {}{}{}", side, summary.simulated ? " (simulated: no image was made)" : "",
                                summary.simulated_pairs ? "; SIMULATED data" : ""));
  report.add_figures({{"queries", fmt::format("{}", summary.queries)},
                      {"prompts", fmt::format("{}", summary.prompts)},
                      {"kept", fmt::format("{} ({:.0f} %)", kept, 100 * share)}});
  std::vector<std::vector<std::string>> rows;
  for (const auto& [type, row] : by_type(summary)) {
    const double part = mean(static_cast<double>(row.kept), row.prompts);
    Json entry = Json(Json::Object{{"prompts", number(row.prompts)}, {"kept", number(row.kept)}, {"share", part}});
    std::vector<std::string> cells = {
        type, fmt::format("{}", row.prompts), fmt::format("{}", row.kept), fmt::format("{:.1f} %", 100 * part), "", ""};
    if (!summary.scores.empty()) {
      entry["mean_score"] = mean(row.score, row.prompts);
      entry["mean_kept_score"] = mean(row.kept_score, row.kept);
      cells[4] = fmt::format("{:.4f}", mean(row.score, row.prompts));
      cells[5] = row.kept > 0 ? fmt::format("{:.4f}", mean(row.kept_score, row.kept)) : "n/a";
    }
    json["types"][type] = std::move(entry);
    rows.push_back(std::move(cells));
  }
  report.add_table("By type of query", {"type", "prompts", "kept", "share", "mean score", "of the kept"}, rows);
  if (!summary.scores.empty()) {
    if (config.select == SelectBy::score) json["threshold"] = thresholds_of(summary, config);
    const Histogram histogram = histogram_of(summary);
    json["histogram"] = Json(Json::Object{{"from", histogram.from},
                                          {"to", histogram.to},
                                          {"all", counts(histogram.all)},
                                          {"kept", counts(histogram.kept)}});
    Series all{"all", {}, true, true}, of_kept{"kept", {}, true, false};
    for (std::size_t bin = 0; bin < kBins; ++bin) {
      const double x = histogram.from + (histogram.to - histogram.from) * (static_cast<double>(bin) + 0.5) / kBins;
      all.points.emplace_back(x, static_cast<double>(histogram.all[bin]));
      of_kept.points.emplace_back(x, static_cast<double>(histogram.kept[bin]));
    }
    report.add_chart("Scores", "score", {all, of_kept});
  }
  write_file(folder / "refine.json", json.dump(2) + "\n");
  report.write(folder / "refine.html");

  fmt::print("{} {} kept of {} prompts to {} queries ({:.1f} %); image side: {}\n", kept,
             config.pairs == PairKind::real ? "real pairs" : "pairs", summary.candidates.size(), summary.queries,
             100 * share, side);
  for (const auto& row : rows) fmt::print("  {:<14} {:>7} of {:>7}  {}\n", row[0], row[2], row[1], row[3]);
  if (summary.unexpanded > 0)
    fmt::print("  left out: {} {} that the model did not expand\n", summary.unexpanded,
               plural(static_cast<std::int64_t>(summary.unexpanded), "query", "queries"));
  if (summary.not_ended > 0) fmt::print("  left out: {} prompts that the model did not end\n", summary.not_ended);
  std::fflush(stdout);
}

}  // namespace unfurl::train
