// unfurl expand without a query: a prompt at which a person tries queries.
//
//   a tower            expands the query
//   2                  expands expansion 2 of the last answer further
//   :more, empty line  other expansions of the same query (the next seed)
//   :n 6, :diverse 16, :steps 2, :prefix FLV, :seed 7, :temperature 0.9, :words 40, :keep free, :ban PHRASE
//   :help, :q
#pragma once
#include <iosfwd>

#include "train/generate/expander.h"

namespace unfurl::train {

/// Runs until ":q" or the end of input. Mistakes are told and forgiven. The prompt "> " is written where `terminal`.
/// Returns the exit code.
int run_session(Expander& expander, const ExpandSettings& settings, std::istream& in, std::ostream& out, bool terminal);

}  // namespace unfurl::train
