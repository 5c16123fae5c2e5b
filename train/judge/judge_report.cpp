#include "train/judge/judge_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "core/names.h"
#include "train/report/html_report.h"
#include "train/trainer/evaluation_report.h"

namespace unfurl::train {
namespace {

using Table = std::vector<std::vector<std::string>>;

struct Column {
  const char *metric, *head;
  int digits;
};
constexpr Column kImageColumns[] = {{"aesthetic", "aesthetics", 3},
                                    {"alignment", "alignment", 4},
                                    {"prompt_alignment", "prompt alignment", 4},
                                    {"diversity", "diversity", 5}};
constexpr Column kWinColumns[] = {{"win_aesthetic", "1x1, aesthetics", 3},
                                  {"best_aesthetic", "best of N, aesthetics", 3},
                                  {"win_alignment", "1x1, alignment", 3},
                                  {"best_alignment", "best of N, alignment", 3}};
constexpr Column kTextColumns[] = {{"words", "words", 1},
                                   {"content_unchanged", "content unchanged", 3},
                                   {"content_added", "content words added", 2},
                                   {"content_kept", "content kept", 3},
                                   {"unknown_words", "new words", 3},
                                   {"self_bleu", "self-BLEU", 3},
                                   {"distinct_1", "distinct-1", 3},
                                   {"distinct_2", "distinct-2", 3},
                                   {"ended", "ended", 3}};

constexpr Column kContentColumns[] = {{"content_unchanged", "content unchanged", 3},
                                      {"content_added", "content words added", 2},
                                      {"flavors_added", "flavors added", 2},
                                      {"content_kept", "content kept", 3},
                                      {"words", "words", 1}};

std::string shown(const Estimate& estimate, int digits) {
  if (!estimate.defined()) return "n/a";
  return fmt::format("{:.{}f} [{:.{}f}, {:.{}f}]", estimate.mean, digits, estimate.low, digits, estimate.high, digits);
}

/// Of a metric; with `minus`, of its difference to that system's.
Estimate over(const std::vector<Scores>& units, const std::string& system, const std::string& metric,
              const Bootstrap& bootstrap, const std::string& minus = {}) {
  std::vector<Unit> values;
  for (const Scores& unit : units) values.push_back(unit.unit(system, metric, minus));
  return estimate(values, bootstrap);
}

/// On the queries for which the system `like` has images alone.
Estimate over_those(const std::vector<Scores>& units, const std::string& system, const std::string& metric,
                    const std::string& like, const Bootstrap& bootstrap) {
  std::vector<Unit> values;
  for (const Scores& unit : units) {
    values.push_back(unit.unit(system, metric));
    const std::vector<double> there = unit.numbers(like, "alignment");
    for (std::size_t q = 0; q < there.size(); ++q) {
      if (!std::isfinite(there[q])) values.back().values[q] = there[q];
    }
  }
  return estimate(values, bootstrap);
}

Json to_json(const Estimate& estimate) {
  if (!estimate.defined()) return {};
  return Json::Object{{"mean", estimate.mean}, {"low", estimate.low}, {"high", estimate.high}};
}

bool is_variant(const std::string& system) {
  return system.find(" @") != std::string::npos || system.find(" +") != std::string::npos;
}

template <std::size_t N>
Table table_of(const std::vector<Scores>& units, const std::vector<std::string>& systems, const Column (&columns)[N],
               const Bootstrap& bootstrap, Json& json) {
  Table table = {{"system"}};
  for (const Column& column : columns) table[0].push_back(column.head);
  for (const std::string& system : systems) {
    std::vector<std::string> row = {system};
    for (const Column& column : columns) {
      const Estimate estimated = over(units, system, column.metric, bootstrap);
      row.push_back(shown(estimated, column.digits));
      json[system][column.metric] = to_json(estimated);
    }
    table.push_back(std::move(row));
  }
  return table;
}

/// The unit as it is with the queries of one kind alone.
Scores only(const Scores& all, const std::function<bool(const TestQuery&)>& wanted) {
  Scores out;
  out.systems = all.systems;
  out.world = all.world;
  for (std::size_t q = 0; q < all.queries.size(); ++q) {
    if (!wanted(all.queries[q])) continue;
    out.queries.push_back(all.queries[q]);
    for (const auto& [system, numbers] : all.of) {
      for (const auto& [metric, values] : numbers) {
        if (q < values.size()) out.of[system][metric].push_back(values[q]);
      }
    }
  }
  for (const std::string& system : out.systems) out.of[system];
  return out;
}

/// How many queries have a value in each of twenty bins.
Series histogram(const std::string& name, const std::vector<double>& values, double low, double high) {
  constexpr int kBins = 20;
  std::vector<double> counts(kBins, 0);
  for (const double value : values) {
    if (!std::isfinite(value)) continue;
    const int bin = high > low ? static_cast<int>((value - low) / (high - low) * kBins) : 0;
    ++counts[static_cast<std::size_t>(std::clamp(bin, 0, kBins - 1))];
  }
  Series out{name, {}, true};
  for (int bin = 0; bin < kBins; ++bin) {
    out.points.emplace_back(low + (bin + 0.5) * (high - low) / kBins, counts[static_cast<std::size_t>(bin)]);
  }
  return out;
}

/// Both forms of what is being shown.
class Pages {
 public:
  Pages(const std::string& title, const std::string& subtitle) : html_(title, subtitle) {}
  void add(const std::string& heading, const Table& table, const std::string& note = {}) {
    if (table.size() < 2) return;
    html_.add_table(heading, table.front(), {table.begin() + 1, table.end()}, note);
    text_ += fmt::format("\n{}{}\n{}", heading, note.empty() ? "" : ": " + note, text_table(table));
  }
  void line(const std::string& text) { text_ += text + "\n"; }
  HtmlReport& html() { return html_; }
  const std::string& text() const { return text_; }

 private:
  HtmlReport html_;
  std::string text_;
};

}  // namespace

Judgement show_judgement(const std::vector<Scores>& units, const std::vector<Tested>& tested,
                         const JudgementPage& page) {
  const Scores& first = units[0];
  const bool simulated = std::any_of(units.begin(), units.end(), [](const Scores& unit) { return unit.simulated; });
  const std::string label = simulated ? "SIMULATED image side: " : "image side: ";
  Pages pages(page.title, label + page.image_side + "; " + page.inference);
  Json json = Json::object();
  json["simulated"] = simulated;
  json["image_side"] = page.image_side;
  json["inference"] = page.inference;
  json["queries"] = static_cast<std::int64_t>(first.queries.size());
  json["units"] = static_cast<std::int64_t>(units.size());
  pages.line(fmt::format("{}{}; {} {}; {:g} % intervals {}", label, page.image_side, first.queries.size(),
                         plural(static_cast<std::int64_t>(first.queries.size()), "query", "queries"),
                         100 * page.bootstrap.confidence, page.inference));

  std::vector<std::string> systems;
  std::copy_if(first.systems.begin(), first.systems.end(), std::back_inserter(systems),
               [](const std::string& system) { return !is_variant(system); });
  Table about = {{"system", "what it is"}};
  for (const auto& [name, what] : page.about) about.push_back({name, what});

  if (!tested.empty()) {
    Table table = {{"hypothesis", "better", "worse", "metric", "smallest effect", "difference", "verdict"}};
    if (units.size() > 1) table[0].push_back("units that find it");
    json["hypotheses"] = Json::array();
    for (const Tested& test : tested) {
      const HypothesisConfig& h = test.hypothesis;
      table.push_back({h.name, h.better, h.worse.empty() ? "(its value)" : h.worse, h.metric,
                       fmt::format("{:g}", h.smallest), shown(test.difference, 4), name_of(test.verdict)});
      Json one = Json::Object{{"name", h.name},     {"better", h.better},     {"worse", h.worse},
                              {"metric", h.metric}, {"smallest", h.smallest}, {"verdict", name_of(test.verdict)}};
      one["difference"] = to_json(test.difference);
      one["found_in_units"] = static_cast<std::int64_t>(test.found);
      if (units.size() > 1) table.back().push_back(fmt::format("{} of {}", test.found, units.size()));
      json["hypotheses"].push_back(std::move(one));
    }
    pages.add("Hypotheses", table,
              "written down before, each meant as \"by at least the smallest effect\"; supported: the whole interval "
              "is above 0 and "
              "the mean at least the smallest effect; "
              "refuted: the whole interval is below the smallest effect");
  }
  pages.add(
      "Images", table_of(units, systems, kImageColumns, page.bootstrap, json["systems"]),
      "alignment: cosine of query and image; diversity: mean squared distance of a query's images from their mean; "
      "n/a, here and below: no query has a value, as where the image side gives no score, or a query has one image");
  pages.add("Share of wins against the straight query",
            table_of(units, systems, kWinColumns, page.bootstrap, json["systems"]),
            "image against image of the same seed, and the best of N against the best of N; ties count half");
  Table against = {{"system minus straight", "aesthetics", "alignment", "diversity"}};
  for (const std::string& system : systems) {
    if (system == "straight" || !first.of.contains("straight")) continue;
    std::vector<std::string> row = {system};
    for (const auto& [metric, digits] : {std::pair{"aesthetic", 3}, {"alignment", 4}, {"diversity", 5}}) {
      const Estimate estimated = over(units, system, metric, page.bootstrap, "straight");
      row.push_back(shown(estimated, digits));
      json["minus_straight"][system][metric] = to_json(estimated);
    }
    against.push_back(std::move(row));
  }
  pages.add("Differences, query by query", against);
  pages.add(
      "Texts", table_of(units, systems, kTextColumns, page.bootstrap, json["systems"]),
      "content kept: of the query's content words; new words: in no training text; self-BLEU and distinct-n among "
      "the N prompts of a query");

  for (const bool by_type : {true, false}) {
    std::set<std::string> kinds;
    for (const TestQuery& query : first.queries) kinds.insert(by_type ? query.type : query.source);
    if (kinds.size() < 2) continue;
    const char* const name = by_type ? "types" : "sources";
    Table table = {{by_type ? "type" : "source", "system", "queries", "aesthetics", "alignment", "diversity"}};
    for (const std::string& kind : kinds) {
      const auto wanted = [&](const TestQuery& query) { return (by_type ? query.type : query.source) == kind; };
      std::vector<Scores> part;
      for (const Scores& unit : units) part.push_back(only(unit, wanted));
      for (const std::string& system : systems) {
        std::vector<std::string> row = {kind.empty() ? "(none)" : kind, system,
                                        fmt::format("{}", part[0].queries.size())};
        for (const auto& [metric, digits] : {std::pair{"aesthetic", 3}, {"alignment", 4}, {"diversity", 5}}) {
          const Estimate estimated = over(part, system, metric, page.bootstrap);
          row.push_back(shown(estimated, digits));
          json[name][kind][system][metric] = to_json(estimated);
        }
        table.push_back(std::move(row));
      }
    }
    pages.add(by_type ? "By type of query" : "By source of the query", table);
  }

  // All on the queries that the models are drawn for at other temperatures.
  std::vector<Series> frontier;
  Table frontier_table = {{"system", "temperature", "alignment", "diversity", "aesthetics"}};
  std::string like;
  const auto add_point = [&](const std::string& name, const std::string& temperature, const std::string& system,
                             Series& series) {
    const Estimate x = over_those(units, system, "alignment", like, page.bootstrap),
                   y = over_those(units, system, "diversity", like, page.bootstrap),
                   z = over_those(units, system, "aesthetic", like, page.bootstrap);
    series.points.emplace_back(x.mean, y.mean);
    frontier_table.push_back({name, temperature, shown(x, 4), shown(y, 5), shown(z, 3)});
    json["frontier"][name][temperature] =
        Json::Object{{"alignment", to_json(x)}, {"diversity", to_json(y)}, {"aesthetic", to_json(z)}};
  };
  for (const std::string& model : page.models) {
    Series series{model, {}, true};  // by temperature
    for (const std::string& system : first.systems) {
      if (!system.starts_with(model + " @")) continue;
      like = system;
      add_point(model, system.substr(model.size() + 2), system, series);
    }
    if (!series.points.empty()) frontier.push_back(std::move(series));
  }
  for (const std::string& system : systems) {
    const auto is_drawn_warmer = [&](const std::string& other) { return other.starts_with(system + " @"); };
    if (like.empty() || std::ranges::any_of(first.systems, is_drawn_warmer)) continue;
    Series series{system, {}, true};
    add_point(system, "-", system, series);
    frontier.push_back(std::move(series));
  }
  pages.add("Diversity against alignment by temperature", frontier_table,
            "on the same queries; random text is the most diverse: diversity says something beside alignment alone");
  if (!frontier.empty()) pages.html().add_chart("Frontier: diversity over alignment", "alignment", frontier);

  Table prefixed = {{"prefix minus none", "aesthetics", "alignment", "diversity", "words", "content unchanged",
                     "content words added"}};
  for (const std::string& system : first.systems) {
    const std::size_t at = system.find(" +");
    if (at == std::string::npos) continue;
    std::vector<std::string> row = {system};
    for (const auto& [metric, digits] : {std::pair{"aesthetic", 3},
                                         {"alignment", 4},
                                         {"diversity", 5},
                                         {"words", 2},
                                         {"content_unchanged", 3},
                                         {"content_added", 2}}) {
      const Estimate estimated = over(units, system, metric, page.bootstrap, system.substr(0, at));
      row.push_back(shown(estimated, digits));
      json["prefixes"][system][metric] = to_json(estimated);
    }
    prefixed.push_back(std::move(row));
  }
  pages.add("Prefixes against none, on the same queries", prefixed);

  std::vector<std::string> asked;  // a model that was given prefixes, and what it says with each
  for (const std::string& system : first.systems) {
    const std::size_t at = system.find(" +");
    if (at == std::string::npos) continue;
    if (asked.empty()) asked.push_back(system.substr(0, at));
    asked.push_back(system);
  }
  pages.add("What prefixes do to the content", table_of(units, asked, kContentColumns, page.bootstrap, json["systems"]),
            "unchanged: the share of prompts that have all content words of the query and add none, told by rules from "
            "flavors");

  for (const auto& [metric, name] :
       {std::pair{"alignment", "Alignment of the queries"}, {"aesthetic", "Aesthetics of the queries"}}) {
    double low = 1e300, high = -1e300;
    for (const std::string& system : systems) {
      for (const double value : first.numbers(system, metric)) {
        if (!std::isfinite(value)) continue;
        low = std::min(low, value);
        high = std::max(high, value);
      }
    }
    if (low > high) continue;
    std::vector<Series> series;
    for (const std::string& system : systems)
      series.push_back(histogram(system, first.numbers(system, metric), low, high));
    pages.html().add_chart(fmt::format("{}: how many queries have it", name), metric, series);
  }
  pages.add("Systems", about);
  return {json, pages.text(), pages.html().html()};
}

}  // namespace unfurl::train
