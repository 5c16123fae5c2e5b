// How attention over packed documents is cut into tasks. The cut depends on the shape and the documents' lengths alone,
// so the results do not depend on the number of threads.
//
// The query rows of a task are the tokens of one document times the heads that share one key-value head, in tiles of
// some tokens times some of these heads. Most documents are one task per key-value head; a long one is several, of
// about equal work, each over some of its tiles of tokens and over the keys that these see.
#pragma once
#include <algorithm>
#include <vector>

#include "kernels/attention.h"

namespace unfurl::kernels {

struct AttentionTask {
  Index document_begin, length, prefix;  // tokens; length is the document's
  Index kv_head;
  Index first_token, last_token;  // of the document: this task's queries
  Index keys;                     // its queries see keys [0, keys) of the document
  Index part, parts;              // which of how many tasks of this document and key-value head
  Index work;                     // scores

  /// The query at `token` sees the document's keys [0, limit).
  Index limit(Index token) const { return std::max(token + 1, prefix); }
};

struct AttentionPlan {
  AttentionPlan(const AttentionShape& shape, const std::int32_t* cu_seqlens, const std::int32_t* prefix_lengths);

  Index group;                       // query heads of a key-value head
  Index tile_heads;                  // at most so many of them
  Index tile_tokens;                 // times so many tokens are a tile
  Index covered;                     // tokens of all documents; the rest is padding
  std::vector<AttentionTask> tasks;  // the parts of one document and key-value head in order, side by side
  std::vector<Index> order;          // of the tasks: the longest first, to end evenly
};

}  // namespace unfurl::kernels
