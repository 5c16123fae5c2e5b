// unfurl expand --jsonl: requests on one stream, answers on the other, a JSON object a line, in order.
//
//   {"query": "a tower", "id"?: any, "n"?, "diverse"?, "steps"?, "prefix"?, "seed"?, "temperature"?, "top_p"?,
//    "top_k"?, "min_p"?, "max_tokens"?, "max_words"?, "keep"?: "verbatim" | "free", "ban"?: [phrase, ...],
//    "expand"?: false}
//   -> {"id", "query", "seed", "expansions": [{"text", "ended", ...}], "warning"?}
//   -> {"id", "query", "expansions": [the query itself], "error"}   where the request has a mistake
//   -> {"error"}                                                    where the line is no request; the service goes on
//
// What a request leaves out is as the command line says; its bans are added to the command line's. An unknown key is an
// error. Empty lines are skipped. Each answer is flushed.
#pragma once
#include <iosfwd>
#include <optional>
#include <string_view>

#include "core/json.h"
#include "train/generate/expander.h"

namespace unfurl::train {

/// The answer to one line. `fixed_seed` is the seed for requests without one; without it each gets a fresh one. Without
/// an expander (--no-expand) every query is its own answer. Never throws for what a line holds.
Json answer_request(std::string_view line, Expander* expander, const ExpandSettings& defaults,
                    std::optional<std::uint64_t> fixed_seed);

/// Serves until the requests end. Returns the exit code: 1 where answers cannot be written.
int serve_requests(Expander* expander, const ExpandSettings& defaults, std::optional<std::uint64_t> fixed_seed,
                   std::istream& in, std::ostream& out);

}  // namespace unfurl::train
