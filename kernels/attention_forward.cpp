// A task packs its keys (transposed, in tiles) and values once; then, for each tile of query rows, scores, online
// softmax and weighted values follow tile of keys by tile of keys.
#include <cmath>

#include "kernels/attention.h"
#include "kernels/attention_plan.h"
#include "kernels/attention_tile.h"

namespace unfurl::kernels {
namespace {

template <class T>
struct Forward {
  Matrix<T> out;
  Accumulator<T>* lse;
  Matrix<const T> q, k, v;
  const AttentionShape& shape;
  const AttentionPlan& plan;
  const TileOps<T>& ops = tile_ops<T>();

  void run(const AttentionTask& task) const {
    const Index dim = shape.head_dim, width = padded(dim);
    const Index tiles = (task.keys + kTileKeys - 1) / kTileKeys;
    const auto [keys, values, queries, scores, sums, maximum, sum] =
        tile_scratch<T, 7>({tiles * kTileKeys * dim, task.keys * width, kTileRows * width, kTileRows * kTileKeys,
                            kTileRows * width, kTileRows, kTileRows});
    const T* k_head = k.row(task.document_begin) + task.kv_head * dim;
    for (Index key = 0; key < task.keys; key += kTileKeys) {
      ops.pack_transposed(keys + key * dim, k_head + key * k.stride, k.stride, std::min(kTileKeys, task.keys - key),
                          dim);
    }
    ops.pack(values, {v.row(task.document_begin) + task.kv_head * dim, v.stride}, task.keys, dim, 1);

    for (Index token = task.first_token; token < task.last_token; token += plan.tile_tokens) {
      const Index tokens = std::min(plan.tile_tokens, task.last_token - token);
      for (Index head = 0; head < plan.group; head += plan.tile_heads) {
        const Index heads = std::min(plan.tile_heads, plan.group - head), rows = tokens * heads;
        const Index first_row = task.document_begin + token, first_head = task.kv_head * plan.group + head;
        ops.pack(queries, {q.row(first_row) + first_head * dim, q.stride, heads, dim}, rows, dim,
                 static_cast<T>(shape.scale));
        const Index limit = task.limit(token + tokens - 1);
        for (Index key = 0; key < limit; key += kTileKeys) {
          const Index count = seen(limit, key);
          std::array<Index, kTileRows> columns;
          for (Index r = 0; r < rows; ++r)
            columns[static_cast<std::size_t>(r)] = seen(task.limit(token + r / heads), key);
          ops.product({.c = scores,
                       .c_stride = kTileKeys,
                       .a = queries,
                       .a_row = width,
                       .a_step = 1,
                       .b = keys + key * dim,
                       .b_stride = kTileKeys,
                       .m = rows,
                       .n = padded(count),
                       .k = dim,
                       .columns = columns.data()});
          ops.softmax(scores, rows, count, columns.data(), maximum, sum, sums, width, key == 0);
          ops.product({.c = sums,
                       .c_stride = width,
                       .a = scores,
                       .a_row = kTileKeys,
                       .a_step = 1,
                       .b = values + key * width,
                       .b_stride = width,
                       .m = rows,
                       .n = width,
                       .k = count,
                       .accumulate = key > 0,
                       .end = columns.data()});
        }
        for (Index r = 0; r < rows; ++r) {
          if (lse != nullptr) {
            lse[(first_head + r % heads) * shape.tokens + first_row + r / heads] = maximum[r] + std::log(sum[r]);
          }
          sum[r] = 1 / sum[r];
        }
        ops.unpack({out.row(first_row) + first_head * dim, out.stride, heads, dim}, sums, rows, dim, sum);
      }
    }
  }
};

}  // namespace

template <class Queue, class T>
void attention_forward(const Queue& queue, Matrix<T> out, Accumulator<T>* lse, Matrix<const T> q, Matrix<const T> k,
                       Matrix<const T> v, const std::int32_t* cu_seqlens, const std::int32_t* prefix_lengths,
                       const AttentionShape& shape) {
  const AttentionPlan plan(shape, cu_seqlens, prefix_lengths);
  const Forward<T> forward{.out = out, .lse = lse, .q = q, .k = k, .v = v, .shape = shape, .plan = plan};
  queue.pool().parallel_for(static_cast<Index>(plan.tasks.size()), [&](Index i) {
    forward.run(plan.tasks[static_cast<std::size_t>(plan.order[static_cast<std::size_t>(i)])]);
  });
  for (Index token = plan.covered; token < shape.tokens; ++token) {
    std::fill_n(out.row(token), shape.heads * shape.head_dim, T{0});
    for (Index head = 0; lse != nullptr && head < shape.heads; ++head) lse[head * shape.tokens + token] = 0;
  }
}

template void attention_forward(const CpuQueue&, Matrix<float>, float*, Matrix<const float>, Matrix<const float>,
                                Matrix<const float>, const std::int32_t*, const std::int32_t*, const AttentionShape&);
template void attention_forward(const CpuQueue&, Matrix<double>, double*, Matrix<const double>, Matrix<const double>,
                                Matrix<const double>, const std::int32_t*, const std::int32_t*, const AttentionShape&);

}  // namespace unfurl::kernels
