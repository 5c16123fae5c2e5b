// unfurl expand: expansions of queries by a trained model.
#pragma once
#include <cstdint>
#include <iosfwd>
#include <string_view>

#include "core/json.h"
#include "train/commands.h"
#include "train/generate/expander.h"
#include "train/generate/load.h"

namespace unfurl::train {

/// run_expand of train/commands.h on the given streams; `terminal` says whether a person types `in`. Returns the exit
/// code. Messages go to the log. Throws UserError for a mistake in the options, a bad query or a run that cannot be
/// loaded; what fails during generation gives the query itself, with a warning.
int run_expand(const ExpandOptions& options, const Loader& loader, std::istream& in, std::ostream& out, bool terminal);

/// The options' settings, checked; the seed is a fresh one where the options have none.
ExpandSettings expand_settings(const ExpandOptions& options);

/// A seed that no earlier run had: from the clock. Below 2^32, to be typed again.
std::uint64_t fresh_seed();

/// {"query", "seed", "prefix"?, "expansions": [{"text", "ended", "stopped_by", "tokens", "log_probability", "sample",
/// "attempt", "earlier"?: [the prompts of the steps before]}], "warning"?}
Json to_json(std::string_view query, std::string_view prefix, const Expansions& expansions);

}  // namespace unfurl::train
