// Evaluations as they are shown: JSON, and tables of text.
#pragma once
#include <string>
#include <vector>

#include "core/json.h"
#include "train/trainer/evaluate_run.h"

namespace unfurl::train {

/// All figures of a run; "types" alone counts the copy pairs, which "without_type" says of "all".
Json to_json(const RunEvaluation& evaluation);

/// A table of runs: a head of column names and a row a run.
std::vector<std::vector<std::string>> comparison_table(const std::vector<RunEvaluation>& runs);
/// A table of one run by the pairs' types.
std::vector<std::vector<std::string>> type_table(const RunEvaluation& run);
/// The rows as aligned text.
std::string text_table(const std::vector<std::vector<std::string>>& rows);

}  // namespace unfurl::train
