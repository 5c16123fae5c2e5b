// Attention of one new token a sequence on a GPU, as kernels/attention.h says it.
//
// Bound by the bytes of K and V: a block of four warps takes kKeys keys of one sequence and key-value head, and up to
// kHeads of the query heads that share it, so what it reads serves them all (multi-query: all heads). Eight lanes score
// a key, four keys a warp at a time; a warp makes the softmax of a head over the part; a thread adds up a column of V
// for all heads. Each part leaves its greatest score, sum and weighted values, and a second kernel joins the parts in
// order; where there can be one part only, the first kernel writes the output. The cut depends on the shape alone.
//
//  a sequence of 1024 keys, 16 heads of 128 over one | 512 KiB read, 16 blocks, 130 KiB of parts
//  shared memory 4.2 KiB a block
#include <type_traits>

#include "kernels/attention.h"
#include "kernels/device/reduce.h"
#include "kernels/device/vector.h"

namespace unfurl::kernels {
namespace {

constexpr int kThreads = 128, kWarps = kThreads / 32, kHeads = 16, kKeys = 64;
constexpr int kLanes = 8, kKeysOfWarp = 32 / kLanes;  // lanes that share a key, and keys that a warp scores at once

template <class T>
struct Decode {
  Matrix<T> out;
  Matrix<const T> q, shared_k, shared_v;
  const T* own_k;
  const T* own_v;
  const std::int32_t* own_lengths;
  const std::int32_t* shared_length_at;  // null: shared_length
  float* partials;  // [rows, heads, parts, 2 + head_dim]: greatest score, sum, weighted values. Null: one part
  Index own_capacity;
  int rows, shared_length, kv_heads, group, head_dim, parts;
  float scale;

  UNFURL_DEVICE int shared_keys() const { return shared_length_at != nullptr ? *shared_length_at : shared_length; }
  UNFURL_DEVICE const T* row_of(const Matrix<const T>& shared, const T* own, int row, int kv_head, int shared_count,
                                int key) const {
    const int column = kv_head * head_dim;
    if (key < shared_count) return shared.row(key) + column;
    return own + (row * own_capacity + key - shared_count) * (kv_heads * head_dim) + column;
  }
  UNFURL_DEVICE float* partial(int row, int head, int part) const {
    return partials + ((Index{row} * kv_heads * group + head) * parts + part) * (2 + head_dim);
  }
};

struct DecodeShared {
  float scores[kHeads][kKeys];
  float greatest[kHeads], sum[kHeads];
};

/// sums[h] += the lane's share of k . q_h.
template <class T, bool kVectors>
UNFURL_DEVICE void score(float (&sums)[kHeads], const T* k, const T* q, int heads, int dim) {
  constexpr int kWidth = kVectors ? kVectorSize<T> : 1;
  for (int d = static_cast<int>(threadIdx.x) % kLanes * kWidth; d < dim; d += kLanes * kWidth) {
    float key[kVectorSize<T>], query[kVectorSize<T>];
    if constexpr (kVectors) {
      load_vector(k + d).to_floats(key);
    } else {
      key[0] = as_float(k[d]);
    }
#pragma unroll
    for (int h = 0; h < kHeads; ++h) {
      if (h >= heads) break;
      if constexpr (kVectors) {
        load_vector(q + h * dim + d).to_floats(query);
      } else {
        query[0] = as_float(q[h * dim + d]);
      }
#pragma unroll
      for (int i = 0; i < kWidth; ++i) sums[h] += key[i] * query[i];
    }
  }
}

/// blockIdx: sequence and key-value head, part, heads of the group.
template <class T, bool kVectors>
__global__ void __launch_bounds__(kThreads, 3) attention_decode_kernel(Decode<T> a) {
  UNFURL_SHARED(DecodeShared, shared, [1]);
  DecodeShared& s = shared[0];
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32;
  const int kv_head = static_cast<int>(blockIdx.x) % a.kv_heads, row = static_cast<int>(blockIdx.x) / a.kv_heads;
  const int part = static_cast<int>(blockIdx.y), first_head = static_cast<int>(blockIdx.z) * kHeads;
  const int heads = min(kHeads, a.group - first_head), head = kv_head * a.group + first_head, dim = a.head_dim;
  const int shared_count = a.shared_keys();
  const int first = part * kKeys, count = min(shared_count + a.own_lengths[row] - first, kKeys);
  const T* q = a.q.row(row) + head * dim;
  for (int j = warp * kKeysOfWarp; j < count; j += kWarps * kKeysOfWarp) {
    const int at = min(j + lane / kLanes, count - 1);
    float sums[kHeads] = {};
    score<T, kVectors>(sums, a.row_of(a.shared_k, a.own_k, row, kv_head, shared_count, first + at), q, heads, dim);
#pragma unroll
    for (int h = 0; h < kHeads; ++h) {
      if (h >= heads) break;
#pragma unroll
      for (int distance = kLanes / 2; distance > 0; distance /= 2) sums[h] += ptx::shuffle_xor(sums[h], distance);
      if (lane % kLanes == 0 && j + lane / kLanes < count) s.scores[h][at] = sums[h] * a.scale;
    }
  }
  __syncthreads();
  for (int h = warp; h < heads; h += kWarps) {
    float greatest = -INFINITY, sum = 0;
    for (int j = lane; j < count; j += 32) greatest = fmaxf(greatest, s.scores[h][j]);
    greatest = warp_max(greatest);
    for (int j = lane; j < count; j += 32) {
      const float p = expf(s.scores[h][j] - greatest);
      s.scores[h][j] = p;
      sum += p;
    }
    sum = warp_sum(sum);
    if (lane == 0) {
      s.greatest[h] = greatest;
      s.sum[h] = sum;
    }
  }
  __syncthreads();
  if (a.partials != nullptr && thread < heads) {
    float* partial = a.partial(row, head + thread, part);
    partial[0] = s.greatest[thread];
    partial[1] = s.sum[thread];
  }
  if (a.partials != nullptr && count <= 0) return;  // a part of no keys: nobody reads its values
  for (int column = thread; column < dim; column += kThreads) {
    float values[kHeads] = {};
#pragma unroll 4
    for (int j = 0; j < count; ++j) {
      const float v = as_float(a.row_of(a.shared_v, a.own_v, row, kv_head, shared_count, first + j)[column]);
#pragma unroll
      for (int h = 0; h < kHeads; ++h) {
        if (h < heads) values[h] += s.scores[h][j] * v;
      }
    }
#pragma unroll
    for (int h = 0; h < kHeads; ++h) {
      if (h >= heads) break;
      if (a.partials != nullptr) {
        a.partial(row, head + h, part)[2 + column] = values[h];
      } else {
        a.out.row(row)[(head + h) * dim + column] = as<T>(s.sum[h] == 0.0f ? 0.0f : values[h] / s.sum[h]);
      }
    }
  }
}

/// A block joins the parts of one sequence and head. A sum that is no number goes on into the output.
template <class T>
__global__ void __launch_bounds__(kThreads) attention_join_kernel(Decode<T> a) {
  const int heads = a.kv_heads * a.group, dim = a.head_dim;
  const int row = static_cast<int>(blockIdx.x) / heads, head = static_cast<int>(blockIdx.x) % heads;
  const float* partials = a.partial(row, head, 0);
  float greatest = -INFINITY, sum = 0;
  for (int part = 0; part < a.parts; ++part) greatest = fmaxf(greatest, partials[part * (2 + dim)]);
  for (int part = 0; part < a.parts; ++part) {
    const float* p = partials + part * (2 + dim);
    if (p[1] != 0.0f) sum += p[1] * expf(p[0] - greatest);
  }
  for (int column = static_cast<int>(threadIdx.x); column < dim; column += kThreads) {
    float value = 0;
    for (int part = 0; part < a.parts; ++part) {
      const float* p = partials + part * (2 + dim);
      if (p[1] != 0.0f) value += p[2 + column] * expf(p[0] - greatest);
    }
    a.out.row(row)[head * dim + column] = as<T>(sum == 0.0f ? 0.0f : value / sum);
  }
}

}  // namespace

template <class Queue, class T>
void attention_decode(const Queue& queue, Matrix<T> out, Matrix<const T> q, Matrix<const T> shared_k,
                      Matrix<const T> shared_v, const T* own_k, const T* own_v, const std::int32_t* own_lengths,
                      const DecodeShape& shape) {
  const Index most = shape.most_keys > 0 ? shape.most_keys : shape.shared_length + shape.own_capacity;
  const Index parts = max((most + kKeys - 1) / kKeys, Index{1});
  const Index group = shape.heads / shape.kv_heads;
  Decode<T> a = {out,
                 q,
                 shared_k,
                 shared_v,
                 own_k,
                 own_v,
                 own_lengths,
                 shape.shared_length_at,
                 nullptr,
                 shape.own_capacity,
                 static_cast<int>(shape.rows),
                 static_cast<int>(shape.shared_length),
                 static_cast<int>(shape.kv_heads),
                 static_cast<int>(group),
                 static_cast<int>(shape.head_dim),
                 static_cast<int>(parts),
                 static_cast<float>(shape.scale)};
  if (parts > 1) {
    a.partials = static_cast<float*>(queue.scratch(
        static_cast<std::size_t>(shape.rows * shape.heads * parts * (2 + shape.head_dim)) * sizeof(float)));
  }
  const bool vectors = shape.head_dim % kVectorSize<T> == 0 && vector_aligned(q.data, q.stride) &&
                       vector_aligned(shared_k.data, shared_k.stride) && vector_aligned(own_k, 0);
  const dim3 grid(static_cast<unsigned>(shape.rows * shape.kv_heads), static_cast<unsigned>(parts),
                  static_cast<unsigned>((group + kHeads - 1) / kHeads));
  launch(queue, vectors ? attention_decode_kernel<T, true> : attention_decode_kernel<T, false>, grid, dim3(kThreads), 0,
         a);
  if (parts > 1) {
    launch(queue, attention_join_kernel<T>, dim3(static_cast<unsigned>(shape.rows * shape.heads)), dim3(kThreads), 0,
           a);
  }
}

#define UNFURL_INSTANTIATE(T)                                                                                      \
  template void attention_decode(const DeviceQueue&, Matrix<T>, Matrix<const T>, Matrix<const T>, Matrix<const T>, \
                                 const T*, const T*, const std::int32_t*, const DecodeShape&);
UNFURL_INSTANTIATE(float)
UNFURL_INSTANTIATE(bf16)
#undef UNFURL_INSTANTIATE

}  // namespace unfurl::kernels
