// A task is one sequence and one key-value head: the query rows are the heads that share it, the keys first the shared
// ones, then its own. So a sequence decodes to the same bits alone and among others.
#include "kernels/attention.h"
#include "kernels/attention_tile.h"

namespace unfurl::kernels {
namespace {

template <class T>
struct Keys {
  const T* k;
  const T* v;
  Index stride, count;
};

template <class T>
struct Decode {
  const DecodeShape& shape;
  const TileOps<T>& ops = tile_ops<T>();

  /// The attention of `rows` heads, at q and out, over the keys of all segments.
  void run(T* out, const T* q, Index rows, const std::array<Keys<T>, 2>& segments) const {
    const Index dim = shape.head_dim, width = padded(dim);
    const auto [keys, values, queries, scores, sums, maximum, sum] =
        tile_scratch<T, 7>({kTileKeys * dim, kTileKeys * width, kTileRows * width, kTileRows * kTileKeys,
                            kTileRows * width, kTileRows, kTileRows});
    ops.pack(queries, {q, 0, rows, dim}, rows, dim, static_cast<T>(shape.scale));
    bool first = true;
    for (const Keys<T>& segment : segments) {
      for (Index key = 0; key < segment.count; key += kTileKeys, first = false) {
        const Index count = std::min(kTileKeys, segment.count - key);
        std::array<Index, kTileRows> columns;
        columns.fill(count);
        ops.pack_transposed(keys, segment.k + key * segment.stride, segment.stride, count, dim);
        ops.product({.c = scores,
                     .c_stride = kTileKeys,
                     .a = queries,
                     .a_row = width,
                     .a_step = 1,
                     .b = keys,
                     .b_stride = kTileKeys,
                     .m = rows,
                     .n = padded(count),
                     .k = dim});
        ops.softmax(scores, rows, count, columns.data(), maximum, sum, sums, width, first);
        const T* v = segment.v + key * segment.stride;
        Index stride = segment.stride;
        if (width != dim) {
          ops.pack(values, {v, stride}, count, dim, 1);
          v = values;
          stride = width;
        }
        ops.product({.c = sums,
                     .c_stride = width,
                     .a = scores,
                     .a_row = kTileKeys,
                     .a_step = 1,
                     .b = v,
                     .b_stride = stride,
                     .m = rows,
                     .n = width,
                     .k = count,
                     .accumulate = !first});
      }
    }
    if (first) {  // no keys at all
      std::fill_n(out, rows * dim, T{0});
      return;
    }
    for (Index r = 0; r < rows; ++r) sum[r] = 1 / sum[r];
    ops.unpack({out, 0, rows, dim}, sums, rows, dim, sum);
  }
};

}  // namespace

template <class Queue, class T>
void attention_decode(const Queue& queue, Matrix<T> out, Matrix<const T> q, Matrix<const T> shared_k,
                      Matrix<const T> shared_v, const T* own_k, const T* own_v, const std::int32_t* own_lengths,
                      const DecodeShape& shape) {
  const Decode<T> decode{.shape = shape};
  const Index shared = shape.shared_length_at != nullptr ? *shape.shared_length_at : shape.shared_length;
  const Index dim = shape.head_dim, group = shape.heads / shape.kv_heads, own_stride = shape.kv_heads * dim;
  queue.pool().parallel_for(shape.rows * shape.kv_heads, [&](Index i) {
    const Index row = i / shape.kv_heads, kv_column = i % shape.kv_heads * dim;
    const Index own = row * shape.own_capacity * own_stride + kv_column;
    for (Index head = 0; head < group; head += kTileRows) {
      const Index column = kv_column * group + head * dim;
      decode.run(out.row(row) + column, q.row(row) + column, std::min(kTileRows, group - head),
                 {{{shared_k.data + kv_column, shared_v.data + kv_column, shared_k.stride, shared},
                   {own_k + own, own_v + own, own_stride, own_lengths[row]}}});
    }
  });
}

template void attention_decode(const CpuQueue&, Matrix<float>, Matrix<const float>, Matrix<const float>,
                               Matrix<const float>, const float*, const float*, const std::int32_t*,
                               const DecodeShape&);
template void attention_decode(const CpuQueue&, Matrix<double>, Matrix<const double>, Matrix<const double>,
                               Matrix<const double>, const double*, const double*, const std::int32_t*,
                               const DecodeShape&);

}  // namespace unfurl::kernels
