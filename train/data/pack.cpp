#include "train/data/pack.h"

#include <algorithm>
#include <numeric>
#include <set>

#include "core/error.h"

namespace unfurl::train {
namespace {

constexpr Index kFewDocuments = 8;

}  // namespace

Bins pack(std::span<const std::int32_t> rows, Index tokens, Index max_documents) {
  require(max_documents >= 1, "pack: max_documents must be at least 1, got {}", max_documents);
  struct Bin {
    Index room, documents;
  };
  std::vector<Bin> bins;
  std::vector<std::size_t> bin_of(rows.size());
  std::set<std::pair<Index, std::size_t>> open;  // by room, then by age
  std::vector<std::size_t> order(rows.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  const Index sum = std::accumulate(rows.begin(), rows.end(), Index{0});
  if (kFewDocuments * sum > tokens * static_cast<Index>(rows.size())) {
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return rows[a] > rows[b]; });
  }
  for (const std::size_t i : order) {
    require(rows[i] >= 1 && rows[i] <= tokens, "pack: a document of {} rows does not fit into {}", rows[i], tokens);
    const auto best = open.lower_bound({rows[i], 0});
    std::size_t chosen = bins.size();
    if (best == open.end()) {
      bins.push_back({tokens, 0});
    } else {
      chosen = best->second;
      open.erase(best);
    }
    Bin& bin = bins[chosen];
    bin.room -= rows[i];
    ++bin.documents;
    if (bin.room > 0 && bin.documents < max_documents) open.insert({bin.room, chosen});
    bin_of[i] = chosen;
  }
  Bins out;
  out.begins.assign(bins.size() + 1, 0);
  for (const std::size_t bin : bin_of) ++out.begins[bin + 1];
  std::partial_sum(out.begins.begin(), out.begins.end(), out.begins.begin());
  out.items.resize(rows.size());
  std::vector<std::int64_t> at(out.begins.begin(), out.begins.end() - 1);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    out.items[static_cast<std::size_t>(at[bin_of[i]]++)] = static_cast<std::int64_t>(i);
  }
  return out;
}

Batch make_batch(std::span<const Example> examples, std::span<const std::int64_t> indices, Index tokens,
                 Index max_documents, Index soft_rows) {
  require(static_cast<Index>(examples.size()) <= max_documents && examples.size() == indices.size(),
          "make_batch: {} documents of {} indices, at most {} fit", examples.size(), indices.size(), max_documents);
  Batch batch;
  batch.documents = static_cast<Index>(examples.size());
  batch.ids.assign(static_cast<std::size_t>(tokens), Tokenizer::kPad);
  batch.positions.assign(static_cast<std::size_t>(tokens), 0);
  batch.prefix_lengths.assign(static_cast<std::size_t>(max_documents), 0);
  batch.cu_seqlens.push_back(0);
  batch.examples.assign(indices.begin(), indices.end());
  for (std::size_t d = 0; d < examples.size(); ++d) {
    const Example& example = examples[d];
    const Index rows = soft_rows + example.rows();
    require(batch.tokens + rows <= tokens, "make_batch: the documents have more than {} rows", tokens);
    for (Index p = 0; p < rows; ++p) {
      const auto row = static_cast<std::size_t>(batch.tokens + p);
      batch.positions[row] = static_cast<std::int32_t>(p);
      if (p < soft_rows) continue;
      const Index r = p - soft_rows;
      const auto i = static_cast<std::size_t>(r);
      batch.ids[row] = example.tokens[i];
      if (r + 1 < example.prefix_length) continue;
      batch.target_rows.push_back(static_cast<std::int32_t>(row));
      batch.targets.push_back(example.tokens[i + 1]);
    }
    batch.prefix_lengths[d] = static_cast<std::int32_t>(soft_rows + example.prefix_length);
    batch.tokens += rows;
    batch.cu_seqlens.push_back(static_cast<std::int32_t>(batch.tokens));
  }
  batch.cu_seqlens.resize(static_cast<std::size_t>(max_documents) + 1, static_cast<std::int32_t>(batch.tokens));

  std::vector<std::uint64_t> keys(static_cast<std::size_t>(batch.tokens));
  for (std::size_t row = 0; row < keys.size(); ++row) {
    keys[row] = std::uint64_t{static_cast<std::uint32_t>(batch.ids[row])} << 32 | row;
  }
  std::sort(keys.begin(), keys.end());
  batch.order.reserve(static_cast<std::size_t>(tokens));
  for (const std::uint64_t key : keys) batch.order.push_back(static_cast<std::int32_t>(key & 0xFFFFFFFFu));
  for (Index row = batch.tokens; row < tokens; ++row) batch.order.push_back(static_cast<std::int32_t>(row));
  return batch;
}

}  // namespace unfurl::train
