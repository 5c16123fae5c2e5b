// Expansions of expansions: the second step expands each prompt of the first once, the third those of the second, ...
#pragma once
#include <string_view>

#include "train/generate/expander.h"

namespace unfurl::train {

/// settings.steps expansions in a row: the first as Expander::expand, each further one of a single sample, with
/// settings.step_prefix. A prompt that cannot be expanded further (too long, nothing to add) stays what it is, and a
/// warning counts them. Sample i of the last step depends on the seed and on sample i of the step before alone.
Expansions expand_in_steps(Expander& expander, std::string_view query, const ExpandSettings& settings);

/// The seed by which step `step` (from 1 for the first further one) expands sample `sample`.
std::uint64_t step_seed(std::uint64_t seed, Index step, Index sample);

/// True where the expander gave nothing but the query itself.
bool is_unexpanded(const Expansions& expansions);

}  // namespace unfurl::train
