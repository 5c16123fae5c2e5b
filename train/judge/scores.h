// The metrics of every system on every query, and what they come to.
#pragma once
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "train/judge/queries.h"
#include "train/judge/statistics.h"
#include "train/recipe/recipe.h"

namespace unfurl::train {

/// One system's numbers by name of the metric, one a query; NaN where there is none.
using Numbers = std::map<std::string, std::vector<double>>;

/// The metrics that a judgement can have.
const std::vector<std::string>& metric_names();

struct Scores {
  std::vector<TestQuery> queries;
  std::vector<std::string> systems;  // in the order in which they are shown
  std::map<std::string, Numbers> of;
  bool simulated = false;
  std::string world;  // what made the images: name and version of the image side

  /// The numbers of a system, over all queries; NaN where it has none. Throws UserError for a system that is not there.
  std::vector<double> numbers(const std::string& system, const std::string& metric) const;
  /// The same, less those of `minus` query by query where that is not "", as they go into statistics.
  Unit unit(const std::string& system, const std::string& metric, const std::string& minus = {}) const;
};

/// One JSON object a line: {"system", "query_id", "query", "type", "source", "group", "world", "simulated",
/// METRIC: number or null ...}.
void write_scores(const std::filesystem::path& path, const Scores& scores);
/// Throws UserError for a file that is none of them.
Scores read_scores(const std::filesystem::path& path);

/// Throws UserError where a hypothesis is on a metric that there is not.
void check_metric(const HypothesisConfig& hypothesis);

struct Tested {
  HypothesisConfig hypothesis;
  Estimate difference;
  Verdict verdict = Verdict::undecided;
  std::size_t found = 0;  // units that, each by itself and over its queries alone, support it
};

/// Over units that have the same systems: with one unit, over its queries alone.
std::vector<Tested> test_hypotheses(const std::vector<Scores>& units, const std::vector<HypothesisConfig>& hypotheses,
                                    const Bootstrap& bootstrap);

}  // namespace unfurl::train
