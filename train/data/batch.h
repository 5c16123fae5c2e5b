// One micro-batch as the trainer takes it: documents packed one after the other, only the tail is padding.
//
// A document's rows are the tokens of its example but the last, which is only ever predicted: row r of the document
// sees the tokens up to its own and, where it is a target row, predicts the next one. Before them may come rows of a
// soft prompt (train/model/decoder.h), which hold the padding piece.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/types.h"

namespace unfurl::train {

struct Batch {
  Index tokens = 0;     // rows in use: the documents'; rows [tokens, ids.size()) are padding
  Index documents = 0;  // in use

  std::vector<std::int32_t> ids;        // [capacity] the padding piece behind `tokens`
  std::vector<std::int32_t> positions;  // [capacity] restart at 0 with each document; 0 behind `tokens`
  std::vector<std::int32_t>
      cu_seqlens;  // [max_documents + 1] document d has rows [d] to [d + 1]; empty ones at the end
  std::vector<std::int32_t>
      prefix_lengths;                     // [max_documents] rows of the document that attend both ways; 0 where empty
  std::vector<std::int32_t> target_rows;  // [targets] strictly increasing: the rows whose next token is predicted
  std::vector<std::int32_t> targets;      // [targets] that next token
  /// [capacity] rows by id, those of one id in order of position; the padding rows follow the `tokens` real ones (no
  /// real row has their id).
  std::vector<std::int32_t> order;
  Index prefixes = 0, dropped = 0;  // documents whose pair has a prefix; of these, those that are shown without it
  /// [documents] the (first) example's global index: sources one after the other. All that a rank has of another
  /// rank's micro-batches.
  std::vector<std::int64_t> examples;

  Index capacity() const { return static_cast<Index>(ids.size()); }
  Index max_documents() const { return static_cast<Index>(prefix_lengths.size()); }
};

/// Predicted tokens of all the batches: what the loss of a step is divided by.
inline Index count_targets(std::span<const Batch> batches) {
  Index count = 0;
  for (const Batch& batch : batches) count += static_cast<Index>(batch.targets.size());
  return count;
}

}  // namespace unfurl::train
