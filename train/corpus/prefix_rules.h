// Which of the eight prefixes a pair is trained with.
//
//   RFT, MSTP         where the pair has it: synthetic pairs know what they are
//   HAST              where its score is high enough
//   FLV               where the query says all of the prompt's content: the prompt adds flavors alone
//   ABST, GRD, SPCT   by the query's type: abstract, grounded, specificity
//   DTL               of other queries: the prompt adds to their content
//   none              copy pairs, and prompts that add nothing
//
// The first that holds. FLV is asked before the types, but not of abstract queries, whose word may stand in the prompt.
#pragma once
#include <optional>
#include <string>

#include "train/corpus/pair.h"
#include "train/corpus/segments.h"

namespace unfurl::train {

/// The prefix, "" for none. `statistics` are of all prompts: they tell flavors where the pair does not name its own.
/// `score` and `threshold` are of HAST.
std::string prefix_by_rules(const Pair& pair, const PromptStatistics& statistics, std::optional<double> score,
                            std::optional<double> threshold);

/// True where every content word of the prompt is in the query, and the prompt has flavors that the query does not.
bool adds_flavors_alone(const Pair& pair, const PromptStatistics& statistics);

}  // namespace unfurl::train
