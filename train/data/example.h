// A pair as the model sees it.
//
//   [prefix] query <sep> prompt <eos>        the part up to <sep> attends both ways, loss on the prompt and <eos>
//   <sep> prompt <eos>                       the unconditional form, for models that are trained with a share of it
//
// A pair that does not fit into the context (rows: all tokens but the last) is truncated: the query keeps half of the
// context, or more where the prompt leaves room; the prompt keeps the rest, and one that is cut has no <eos>.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/types.h"
#include "train/data/tokenizer.h"

namespace unfurl::train {

struct Example {
  std::vector<std::int32_t> tokens;  // the last one is only predicted
  Index prefix_length = 0;           // tokens up to and with <sep>; tokens from here on are predicted
  bool truncated = false;

  Index rows() const { return static_cast<Index>(tokens.size()) - 1; }
};

/// [prefix] query <sep>: what generation starts from. `prefix` is the prefix's piece, or -1 for none; a query longer
/// than `limit` tokens is cut at its end.
std::vector<std::int32_t> query_part(std::int32_t prefix, std::span<const std::int32_t> query, Index limit);

/// `context` is the most rows that a document may have, at least 4. How much is cut does not depend on whether the
/// prefix (-1 for none) is there, so that dropping it changes nothing else.
Example make_example(std::int32_t prefix, std::span<const std::int32_t> query, std::span<const std::int32_t> prompt,
                     Index context);

/// The rows of make_example, from the lengths of query and prompt.
Index example_rows(bool prefix, Index query, Index prompt, Index context);

/// The unconditional form of an example: <sep>, then the same predicted tokens.
Example without_query(const Example& example);

}  // namespace unfurl::train
