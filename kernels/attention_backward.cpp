// A task owns the gradients of its queries and sums those of its keys and values over all its query rows. Per tile,
// with qs = scale * q:
//
//   p = exp(qs k^T - lse),  ds = p * (dout v^T - delta),  delta = sum_c dout * out
//   dq = scale * ds k,      dk += ds^T qs,                dv += p^T dout
//
// Where a document is several tasks, each sums into memory of its own and a second pass adds these in order.
#include "kernels/attention.h"
#include "kernels/attention_plan.h"
#include "kernels/attention_tile.h"

namespace unfurl::kernels {
namespace {

template <class T>
struct Backward {
  Matrix<T> dq, dk, dv;
  Matrix<const T> dout, out;
  const Accumulator<T>* lse;
  Matrix<const T> q, k, v;
  const AttentionShape& shape;
  const AttentionPlan& plan;
  const TileOps<T>& ops = tile_ops<T>();

  /// `partial`: where this task leaves the gradients of its keys, then those of its values, each [task.keys,
  /// padded(head_dim)]; null where it is the document's only task.
  void run(const AttentionTask& task, T* partial) const {
    const Index dim = shape.head_dim, width = padded(dim);
    const Index tiles = (task.keys + kTileKeys - 1) / kTileKeys, transposed = tiles * kTileKeys * dim;
    const Index tile = kTileRows * width, square = kTileRows * kTileKeys, own = partial ? 0 : 2 * task.keys * width;
    const auto [keys_t, values_t, keys, gradients, queries, cotangents, probabilities, differences, query_gradients,
                row_lse, delta, factors] =
        tile_scratch<T, 12>({transposed, transposed, task.keys * width, own, tile, tile, square, square, tile,
                             kTileRows, kTileRows, std::max(kTileRows, task.keys)});
    T* const key_gradients = partial != nullptr ? partial : gradients;
    T* const value_gradients = key_gradients + task.keys * width;
    std::fill_n(key_gradients, 2 * task.keys * width, T{0});
    const T* k_head = k.row(task.document_begin) + task.kv_head * dim;
    const T* v_head = v.row(task.document_begin) + task.kv_head * dim;
    for (Index key = 0; key < task.keys; key += kTileKeys) {
      const Index count = std::min(kTileKeys, task.keys - key);
      ops.pack_transposed(keys_t + key * dim, k_head + key * k.stride, k.stride, count, dim);
      ops.pack_transposed(values_t + key * dim, v_head + key * v.stride, v.stride, count, dim);
    }
    ops.pack(keys, {k_head, k.stride}, task.keys, dim, 1);

    for (Index token = task.first_token; token < task.last_token; token += plan.tile_tokens) {
      const Index tokens = std::min(plan.tile_tokens, task.last_token - token);
      for (Index head = 0; head < plan.group; head += plan.tile_heads) {
        const Index heads = std::min(plan.tile_heads, plan.group - head), rows = tokens * heads;
        const Index first_row = task.document_begin + token, first_head = task.kv_head * plan.group + head;
        const Index column = first_head * dim;
        ops.pack(queries, {q.row(first_row) + column, q.stride, heads, dim}, rows, dim, static_cast<T>(shape.scale));
        ops.pack(cotangents, {dout.row(first_row) + column, dout.stride, heads, dim}, rows, dim, 1);
        ops.dots(delta, cotangents, {out.row(first_row) + column, out.stride, heads, dim}, rows, dim);
        for (Index r = 0; r < rows; ++r) {
          row_lse[r] = lse[(first_head + r % heads) * shape.tokens + first_row + r / heads];
        }
        const Index limit = task.limit(token + tokens - 1);
        for (Index key = 0; key < limit; key += kTileKeys) {
          const Index count = seen(limit, key);
          std::array<Index, kTileRows> columns;
          for (Index r = 0; r < rows; ++r)
            columns[static_cast<std::size_t>(r)] = seen(task.limit(token + r / heads), key);
          // The first row that sees key + j: the first of all within the prefix, else that of the key's own token.
          std::array<Index, kTileKeys> begin;
          for (Index j = 0; j < count; ++j) {
            const Index seer = key + j < task.prefix ? 0 : std::max<Index>(0, key + j - token);
            begin[static_cast<std::size_t>(j)] = std::min(rows, seer * heads);
          }
          TileProduct<T> to_scores{.c = probabilities,
                                   .c_stride = kTileKeys,
                                   .a = queries,
                                   .a_row = width,
                                   .a_step = 1,
                                   .b = keys_t + key * dim,
                                   .b_stride = kTileKeys,
                                   .m = rows,
                                   .n = padded(count),
                                   .k = dim,
                                   .columns = columns.data()};
          ops.product(to_scores);
          to_scores.c = differences;
          to_scores.a = cotangents;
          to_scores.b = values_t + key * dim;
          ops.product(to_scores);
          ops.softmax_gradient(probabilities, differences, rows, count, columns.data(), row_lse, delta);
          ops.product({.c = query_gradients,
                       .c_stride = width,
                       .a = differences,
                       .a_row = kTileKeys,
                       .a_step = 1,
                       .b = keys + key * width,
                       .b_stride = width,
                       .m = rows,
                       .n = width,
                       .k = count,
                       .accumulate = key > 0,
                       .end = columns.data()});
          TileProduct<T> to_keys{.c = value_gradients + key * width,
                                 .c_stride = width,
                                 .a = probabilities,
                                 .a_row = 1,
                                 .a_step = kTileKeys,
                                 .b = cotangents,
                                 .b_stride = width,
                                 .m = count,
                                 .n = width,
                                 .k = rows,
                                 .accumulate = true,
                                 .begin = begin.data()};
          ops.product(to_keys);
          to_keys.c = key_gradients + key * width;
          to_keys.a = differences;
          to_keys.b = queries;
          ops.product(to_keys);
        }
        std::fill_n(factors, rows, static_cast<T>(shape.scale));
        ops.unpack({dq.row(first_row) + column, dq.stride, heads, dim}, query_gradients, rows, dim, factors);
      }
    }
    if (partial != nullptr) return;
    std::fill_n(factors, task.keys, T{1});
    const Index column = task.kv_head * dim;
    ops.unpack({dk.row(task.document_begin) + column, dk.stride}, key_gradients, task.keys, dim, factors);
    ops.unpack({dv.row(task.document_begin) + column, dv.stride}, value_gradients, task.keys, dim, factors);
  }

  /// Adds the partial sums of a document's tasks, the first of which is `task`. The last sees all keys.
  void reduce(const AttentionTask* task, T* const* partials) const {
    const Index dim = shape.head_dim, width = padded(dim);
    for (Index key = 0; key < task->length; ++key) {
      T* const to_k = dk.row(task->document_begin + key) + task->kv_head * dim;
      T* const to_v = dv.row(task->document_begin + key) + task->kv_head * dim;
      std::fill_n(to_k, dim, T{0});
      std::fill_n(to_v, dim, T{0});
      for (Index part = 0; part < task->parts; ++part) {
        if (key >= task[part].keys) continue;
        const T* from_k = partials[part] + key * width;
        const T* from_v = from_k + task[part].keys * width;
        for (Index c = 0; c < dim; ++c) to_k[c] += from_k[c];
        for (Index c = 0; c < dim; ++c) to_v[c] += from_v[c];
      }
    }
  }
};

}  // namespace

template <class Queue, class T>
void attention_backward(const Queue& queue, Matrix<T> dq, Matrix<T> dk, Matrix<T> dv, Matrix<const T> dout,
                        Matrix<const T> out, const Accumulator<T>* lse, Matrix<const T> q, Matrix<const T> k,
                        Matrix<const T> v, const std::int32_t* cu_seqlens, const std::int32_t* prefix_lengths,
                        const AttentionShape& shape) {
  const AttentionPlan plan(shape, cu_seqlens, prefix_lengths);
  const Backward<T> backward{.dq = dq,
                             .dk = dk,
                             .dv = dv,
                             .dout = dout,
                             .out = out,
                             .lse = lse,
                             .q = q,
                             .k = k,
                             .v = v,
                             .shape = shape,
                             .plan = plan};
  const std::size_t tasks = plan.tasks.size();
  std::vector<Index> split;  // the first tasks of documents that are several
  Index partial_elements = 0;
  for (const AttentionTask& task : plan.tasks) {
    if (task.parts > 1) partial_elements += 2 * task.keys * padded(shape.head_dim);
  }
  T* memory = static_cast<T*>(queue.scratch(static_cast<std::size_t>(partial_elements) * sizeof(T)));
  std::vector<T*> partials(tasks, nullptr);
  for (std::size_t i = 0; i < tasks; ++i) {
    const AttentionTask& task = plan.tasks[i];
    if (task.parts == 1) continue;
    if (task.part == 0) split.push_back(static_cast<Index>(i));
    partials[i] = memory;
    memory += 2 * task.keys * padded(shape.head_dim);
  }

  queue.pool().parallel_for(static_cast<Index>(tasks), [&](Index i) {
    const auto task = static_cast<std::size_t>(plan.order[static_cast<std::size_t>(i)]);
    backward.run(plan.tasks[task], partials[task]);
  });
  queue.pool().parallel_for(static_cast<Index>(split.size()), [&](Index i) {
    const auto first = static_cast<std::size_t>(split[static_cast<std::size_t>(i)]);
    backward.reduce(&plan.tasks[first], &partials[first]);
  });
  for (Index token = plan.covered; token < shape.tokens; ++token) {
    std::fill_n(dq.row(token), shape.heads * shape.head_dim, T{0});
    std::fill_n(dk.row(token), shape.kv_heads * shape.head_dim, T{0});
    std::fill_n(dv.row(token), shape.kv_heads * shape.head_dim, T{0});
  }
}

template void attention_backward(const CpuQueue&, Matrix<float>, Matrix<float>, Matrix<float>, Matrix<const float>,
                                 Matrix<const float>, const float*, Matrix<const float>, Matrix<const float>,
                                 Matrix<const float>, const std::int32_t*, const std::int32_t*, const AttentionShape&);
template void attention_backward(const CpuQueue&, Matrix<double>, Matrix<double>, Matrix<double>, Matrix<const double>,
                                 Matrix<const double>, const double*, Matrix<const double>, Matrix<const double>,
                                 Matrix<const double>, const std::int32_t*, const std::int32_t*, const AttentionShape&);

}  // namespace unfurl::kernels
