#include "kernels/attention_plan.h"

#include <numeric>

#include "kernels/attention_tile.h"

namespace unfurl::kernels {
namespace {

/// Scores of a task, about: a document of 64 tokens and 6 heads has 12,480. Packing the keys again for the next part
/// of a document then costs a few per cent.
constexpr Index kTaskWork = 32768;

}  // namespace

AttentionPlan::AttentionPlan(const AttentionShape& shape, const std::int32_t* cu_seqlens,
                             const std::int32_t* prefix_lengths)
    : group(shape.heads / shape.kv_heads),
      tile_heads(std::min(group, kTileRows)),
      tile_tokens(kTileRows / tile_heads),
      covered(shape.documents > 0 ? cu_seqlens[shape.documents] : 0) {
  for (Index document = 0; document < shape.documents; ++document) {
    AttentionTask task{};
    task.document_begin = cu_seqlens[document];
    task.length = cu_seqlens[document + 1] - task.document_begin;
    task.prefix = std::min<Index>(prefix_lengths[document], task.length);
    if (task.length == 0) continue;
    const Index total =
        group * (task.prefix * task.prefix + (task.length - task.prefix) * (task.length + task.prefix + 1) / 2);
    const Index tiles = (task.length + tile_tokens - 1) / tile_tokens;
    const Index share = total / std::clamp<Index>(total / kTaskWork, 1, tiles);

    const std::size_t first = tasks.size();
    for (Index tile = 0; tile < tiles; ++tile) {
      task.last_token = std::min(task.length, (tile + 1) * tile_tokens);
      for (Index token = tile * tile_tokens; token < task.last_token; ++token) task.work += group * task.limit(token);
      task.keys = task.limit(task.last_token - 1);
      if (task.work < share && task.last_token < task.length) continue;
      tasks.push_back(task);
      task.first_token = task.last_token;
      task.work = 0;
      ++task.part;
    }
    const std::size_t parts = tasks.size() - first;
    for (Index kv_head = 0; kv_head < shape.kv_heads; ++kv_head) {
      for (std::size_t i = 0; i < parts; ++i) {
        AttentionTask copy = tasks[first + i];
        copy.kv_head = kv_head;
        copy.parts = static_cast<Index>(parts);
        if (kv_head == 0) {
          tasks[first + i] = copy;
        } else {
          tasks.push_back(copy);
        }
      }
    }
  }
  order.resize(tasks.size());
  std::iota(order.begin(), order.end(), Index{0});
  std::stable_sort(order.begin(), order.end(), [&](Index a, Index b) {
    return tasks[static_cast<std::size_t>(a)].work > tasks[static_cast<std::size_t>(b)].work;
  });
}

}  // namespace unfurl::kernels
