#include "train/judge/scores.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "core/lines.h"
#include "core/names.h"

namespace unfurl::train {
namespace {

constexpr double kNothing = std::numeric_limits<double>::quiet_NaN();
constexpr const char* kTexts[] = {"system", "query_id", "query", "type", "source", "group", "world"};

}  // namespace

const std::vector<std::string>& metric_names() {
  static const std::vector<std::string> names = {
      "aesthetic",     "alignment",      "prompt_alignment",  "diversity",     "win_aesthetic",
      "win_alignment", "best_aesthetic", "best_alignment",    "words",         "ended",
      "content_added", "content_kept",   "content_unchanged", "flavors_added", "unknown_words",
      "self_bleu",     "distinct_1",     "distinct_2"};
  return names;
}

std::vector<double> Scores::numbers(const std::string& system, const std::string& metric) const {
  const auto found = of.find(system);
  if (found == of.end()) user_error("no system \"{}\" was judged{}", system, did_you_mean(system, systems));
  const auto values = found->second.find(metric);
  std::vector<double> out = values == found->second.end() ? std::vector<double>{} : values->second;
  out.resize(queries.size(), kNothing);
  return out;
}

Unit Scores::unit(const std::string& system, const std::string& metric, const std::string& minus) const {
  Unit out{numbers(system, metric), {}, world};
  if (!minus.empty()) {
    const std::vector<double> other = numbers(minus, metric);
    for (std::size_t q = 0; q < out.values.size(); ++q) out.values[q] -= other[q];
  }
  for (const TestQuery& query : queries) out.groups.push_back(query.group);
  return out;
}

void write_scores(const std::filesystem::path& path, const Scores& scores) {
  FileWriter file(path);
  for (const std::string& system : scores.systems) {
    const Numbers& numbers = scores.of.at(system);
    for (std::size_t q = 0; q < scores.queries.size(); ++q) {
      const TestQuery& query = scores.queries[q];
      Json line = Json::Object{{"system", system},      {"query_id", query.id},         {"query", query.text},
                               {"type", query.type},    {"source", query.source},       {"group", query.group},
                               {"world", scores.world}, {"simulated", scores.simulated}};
      bool any = false;
      for (const auto& [metric, values] : numbers) {
        if (q >= values.size()) continue;
        line[metric] = std::isfinite(values[q]) ? Json(values[q]) : Json();
        any = true;
      }
      if (any) file.write(line.dump() + "\n");
    }
  }
  file.commit();
}

Scores read_scores(const std::filesystem::path& path) {
  const std::string text = read_file(path);
  Scores out;
  std::map<std::string, std::size_t> places;
  for (const auto& [number, bytes] : Lines(text)) {
    try {
      const Json line = Json::parse_line(bytes);
      const std::string system = line.at("system").as_string(), id = line.at("query_id").as_string();
      const auto [place, is_new] = places.emplace(id, out.queries.size());
      if (is_new) {
        out.queries.push_back({id, line.at("query").as_string(), line.at("type").as_string(),
                               line.at("source").as_string(), line.at("group").as_string()});
      }
      out.simulated = line.at("simulated").as_bool();
      out.world = line.at("world").as_string();
      if (!out.of.contains(system)) out.systems.push_back(system);
      for (const auto& [key, value] : line.as_object()) {
        if (std::ranges::find(kTexts, key) != std::end(kTexts) || key == "simulated") continue;
        std::vector<double>& values = out.of[system][key];
        values.resize(std::max(values.size(), place->second + 1), kNothing);
        if (!value.is_null()) values[place->second] = value.as_number();
      }
    } catch (const UserError&) {
      throw;
    } catch (const Error& error) {
      user_error("{}:{}: this is no line of a judgement: {}", path.string(), number, error.what());
    }
  }
  if (out.queries.empty()) user_error("{} holds no judgement", path.string());
  return out;
}

void check_metric(const HypothesisConfig& hypothesis) {
  const std::vector<std::string>& names = metric_names();
  if (std::ranges::find(names, hypothesis.metric) != names.end()) return;
  user_error("the hypothesis \"{}\" is on the metric \"{}\", which there is not{}; there are {}", hypothesis.name,
             hypothesis.metric, did_you_mean(hypothesis.metric, names), fmt::join(names, ", "));
}

std::vector<Tested> test_hypotheses(const std::vector<Scores>& units, const std::vector<HypothesisConfig>& hypotheses,
                                    const Bootstrap& bootstrap) {
  std::vector<Tested> out;
  for (const HypothesisConfig& hypothesis : hypotheses) {
    std::vector<Unit> by;
    for (const Scores& unit : units) by.push_back(unit.unit(hypothesis.better, hypothesis.metric, hypothesis.worse));
    const Estimate estimated = estimate(by, bootstrap);
    Tested tested{hypothesis, estimated, judge_difference(estimated, hypothesis.smallest)};
    for (const Unit& unit : by) {
      const Estimate alone = estimate(std::vector<Unit>{unit}, bootstrap);
      tested.found += judge_difference(alone, hypothesis.smallest) == Verdict::supported ? 1 : 0;
    }
    out.push_back(std::move(tested));
  }
  return out;
}

}  // namespace unfurl::train
