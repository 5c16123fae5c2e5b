// Documents into bins, and a bin into a micro-batch.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "train/data/batch.h"
#include "train/data/example.h"

namespace unfurl::train {

/// Bin b holds the documents items[begins[b]] ... items[begins[b + 1] - 1].
struct Bins {
  std::vector<std::int64_t> items;
  std::vector<std::int64_t> begins = {0};

  Index size() const { return static_cast<Index>(begins.size()) - 1; }
  std::span<const std::int64_t> bin(Index b) const {
    const auto i = static_cast<std::size_t>(b);
    return std::span(items).subspan(static_cast<std::size_t>(begins[i]),
                                    static_cast<std::size_t>(begins[i + 1] - begins[i]));
  }
};

/// Best fit: each document in turn goes into the bin that it leaves the least room in, or opens a new one. Where fewer
/// than 8 average documents fill a bin, the longest go first, which wastes less; otherwise they keep their order, so
/// that a bin has documents of all lengths. Documents are given by their rows, each in [1, tokens]; bins are in the
/// order in which they were opened, documents of a bin in that of the list.
Bins pack(std::span<const std::int32_t> rows, Index tokens, Index max_documents);

/// Documents i, whose example has the global index indices[i], one after the other. They must fit. Each starts with
/// `soft_rows` rows of a soft prompt, at positions 0, 1, ..., and its own follow them.
Batch make_batch(std::span<const Example> examples, std::span<const std::int64_t> indices, Index tokens,
                 Index max_documents, Index soft_rows = 0);

}  // namespace unfurl::train
