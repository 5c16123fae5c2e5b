// Attention backward on a GPU, deterministic: every gradient is summed in one order, none by atomics.
// kernels/attention.h holds the contract, kernels/attention.cuh the layout of rows. With P = softmax(scale Q K^T)
// recomputed from lse, and delta = sum(dO * O) of each row,
//
//   dV = P^T dO,   dS = P * (dO V^T - delta),   dK = scale dS^T Q,   dQ = scale dS K
//
// bf16 with heads of 64 or 128 takes four launches, whose grids depend on the shape alone:
//  1. documents of at most 128 tokens, and 2. those of 129 to 256 (attention_short.cuh): all gradients in one block,
//     five products, every operand read once. Where there would be few blocks, the heads of a group are divided among
//     several, which leave partial sums of dK and dV. 2. with heads of 128 needs 185 KiB of shared memory, so an sm_80
//     leaves such documents to 3. and 4.;
//  3. dQ of the rows of longer documents, and their delta: three products. Blocks of short documents return at once;
//  4. dK and dV of the keys of longer documents: four products; and the sums of what 1. and 2. left in parts.
//
//  a block              | 1. D 64 | D 128 | 2. D 64 | D 128 | 3. D 64 | D 128 | 4. D 64 | D 128
//  warps                |       8 |     8 |      16 |     8 |       4 |     4 |       4 |     4
//  KiB of shared memory |      89 |   161 |     137 |   185 |      49 |    97 |      50 |    98
//  registers            |     209 |   255 |     128 |   255 |     163 |   229 |     180 |   246
//  blocks of an sm_90 SM|       1 |     1 |       1 |     1 |       3 |     2 |       2 |     2
//
//  T 128, one document and key-value head, in 1.: multi-head D 64 128 KiB and at most 10.5 MFLOP; 16 query heads of 128
//  over one 2.1 MiB and 336 MFLOP; about 0.6 of that where it is causal.
#include "kernels/attention_backward.cuh"
#include "kernels/attention_general.cuh"
#include "kernels/attention_short.cuh"

namespace unfurl::kernels {
namespace {

constexpr int kThreads = 128;

template <int kDim>
struct DqShared {
  Tile<kTileRows, kDim> q, dout;
  Tile<kTileKeys, kDim> k[2], v[2];  // k[1] holds out at first
  Span spans[kTileRows];
};
static_assert(sizeof(DqShared<128>) <= 113 * 1024, "two blocks on a multiprocessor of sm_90");

/// dQ += dS K of kStep keys; fragments of k start at k_across and k_along, of v at v.
template <int kDim>
UNFURL_DEVICE void add_keys(float (&dq)[kDim / 8][4], const std::uint32_t (&q)[kDim / 16][4],
                            const std::uint32_t (&dout)[kDim / 16][4], std::uint32_t k_across, std::uint32_t k_along,
                            std::uint32_t v, int key, const Span (&seen)[2], bool whole, float scale,
                            const float (&lse)[2], const float (&delta)[2]) {
  constexpr int kTiles = kStep / 8;
  constexpr std::uint32_t kBytes = 16 * kDim * sizeof(bf16);  // of 16 rows
  float s[kTiles][4], dp[kTiles][4];
#pragma unroll
  for (int n = 0; n < kTiles; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) s[n][i] = dp[n][i] = 0;
  }
#pragma unroll
  for (int d = 0; d < kDim / 16; ++d) {
#pragma unroll
    for (int n = 0; n < kTiles; n += 2) {
      std::uint32_t b[4];
      ptx::load_matrices(b, fragment_at(k_across, 2 * d) + n / 2 * kBytes);
      multiply(s[n], s[n + 1], q[d], b);
      ptx::load_matrices(b, fragment_at(v, 2 * d) + n / 2 * kBytes);
      multiply(dp[n], dp[n + 1], dout[d], b);
    }
  }
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int n = 0; n < kTiles; n += 2) {
#pragma unroll
    for (int e = 0; e < 8; ++e) {
      const int tile = n + e / 4, i = e % 4, r = i / 2;
      const bool sees = whole || seen[r].has(key + tile * 8 + lane % 4 * 2 + i % 2);
      const float p = sees ? ptx::ex2(s[tile][i] * scale - lse[r]) : 0.0f;
      dp[tile][i] = p * (dp[tile][i] - delta[r]);
    }
    std::uint32_t ds[4];
    as_operand(ds, dp[n], dp[n + 1]);
#pragma unroll
    for (int t = 0; t < kDim / 8; t += 2) {
      std::uint32_t b[4];
      ptx::load_matrices_transposed(b, fragment_at(k_along, t) + n / 2 * kBytes);
      multiply(dq[t], dq[t + 1], ds, b);
    }
  }
}

/// dQ of 64 rows, 16 a warp, and their delta. The rows of short documents are left alone.
template <int kDim>
__global__ void __launch_bounds__(kThreads, 2) attention_dq_kernel(Backward a) {
  UNFURL_DYNAMIC_SHARED(DqShared<kDim>, shared);
  const Sizes& sizes = a.sizes;
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp_row = thread / 32 * 16;
  const int kv_head = static_cast<int>(blockIdx.x) % sizes.kv_heads;
  const int first_row = static_cast<int>(blockIdx.x) / sizes.kv_heads * kTileRows;
  const int covered = sizes.documents.covered(), rows = sizes.rows();
  const auto copy_rows = [&](auto& tile, const Matrix<const bf16>& from) {
    copy_tile<kThreads>(tile, from.data, [&](int r) -> const bf16* {
      const int row = first_row + r;
      return row < covered * sizes.group ? row_of(from, sizes, kv_head, row, kDim) : nullptr;
    });
  };
  bool ours = false;  // the row `thread`: of a long document, or padding, whose gradients are 0
  if (thread < kTileRows) {
    const int token = (first_row + thread) / sizes.group;
    int document = 0;
    if (first_row / sizes.group < covered) document = find_document(sizes.documents, first_row / sizes.group);
    const Span span = find_span(sizes.documents, document, token, covered);
    shared.spans[thread] = span;
    ours = !span.empty() || token >= covered;
  }
  if (__syncthreads_or(ours) == 0) return;
  copy_rows(shared.q, a.q);
  copy_rows(shared.dout, a.dout);
  copy_rows(shared.k[1], a.out);
  const int origin = shared.spans[0].begin;
  const int tiles = (shared.spans[kTileRows - 1].end - origin + kTileKeys - 1) / kTileKeys;
  const auto fetch = [&](int t) {
    const int key = origin + t * kTileKeys;
    const auto copy_keys = [&](auto& tile, const Matrix<const bf16>& from) {
      copy_tile<kThreads>(tile, from.data, [&](int r) -> const bf16* {
        return key + r < covered ? from.row(key + r) + kv_head * kDim : nullptr;
      });
    };
    copy_keys(shared.k[t % 2], a.k);
    copy_keys(shared.v[t % 2], a.v);
  };
  if (tiles > 0) fetch(0);
  ptx::commit_copies();
  ptx::wait_copies<0>();
  __syncthreads();
  const Span seen[2] = {shared.spans[warp_row + lane / 4], shared.spans[warp_row + lane / 4 + 8]};
  std::uint32_t q[kDim / 16][4], dout[kDim / 16][4];
  float delta[2] = {}, lse[2];
#pragma unroll
  for (int d = 0; d < kDim / 16; ++d) {
    std::uint32_t out[4];
    ptx::load_matrices(q[d], fragment_at(along(shared.q, warp_row), 2 * d));
    ptx::load_matrices(dout[d], fragment_at(along(shared.dout, warp_row), 2 * d));
    ptx::load_matrices(out, fragment_at(along(shared.k[1], warp_row), 2 * d));
#pragma unroll
    for (int i = 0; i < 4; ++i) delta[i % 2] += dot_pair(dout[d][i], out[i]);
  }
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    delta[r] = quad_sum(delta[r]);
    const int row = first_row + warp_row + lane / 4 + 8 * r;
    const Index place = row < rows ? place_of(sizes, kv_head, row) : 0;
    lse[r] = a.lse[place] * kLog2e;
    if (row < rows && lane % 4 == 0) a.delta[place] = delta[r];
  }
  const Span upper = shared.spans[warp_row], lower = shared.spans[warp_row + 15];
  float dq[kDim / 8][4] = {};
  for (int t = 0; t < tiles; ++t) {
    ptx::wait_copies<0>();
    __syncthreads();  // the tile is there for all, and nobody reads the one before
    if (t + 1 < tiles) fetch(t + 1);
    ptx::commit_copies();
#pragma unroll 1
    for (int step = 0; step < kTileKeys; step += kStep) {
      const int key = origin + t * kTileKeys + step;
      if (key >= lower.end || key + kStep <= upper.begin) continue;
      add_keys<kDim>(dq, q, dout, across(shared.k[t % 2], step), along(shared.k[t % 2], step),
                     across(shared.v[t % 2], step), key, seen, lower.begin <= key && key + kStep <= upper.end,
                     sizes.scale * kLog2e, lse, delta);
    }
  }
  ptx::wait_copies<0>();
  bf16* to[2];
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int row = first_row + warp_row + lane / 4 + 8 * r;
    const bool stored = row < rows && (!seen[r].empty() || row >= covered * sizes.group);
    to[r] = stored ? row_of(a.dq, sizes, kv_head, row, kDim) : nullptr;
  }
  store_rows(to[0], to[1], dq, sizes.scale, sizes.scale);
}

/// dK and dV of the keys of a tile that belong to short documents: the sums of what the parts of the heads gave.
template <int kDim>
UNFURL_DEVICE void sum_splits(const Backward& a, const bool (&is_short)[kTileKeys], int first_key, int kv_head) {
  constexpr int kVectors = kDim / 8;
  const Sizes& sizes = a.sizes;
  const int width = sizes.kv_heads * kDim;
  for (int i = static_cast<int>(threadIdx.x); i < 2 * kTileKeys * kVectors; i += kThreads) {
    const int which = i / (kTileKeys * kVectors), key = i / kVectors % kTileKeys, token = first_key + key;
    if (!is_short[key]) continue;
    const int column = kv_head * kDim + i % kVectors * 8;
    float sums[8] = {};
    for (int split = 0; split < a.splits; ++split) {
      const float* from = a.partials + ((Index{split} * 2 + which) * sizes.tokens + token) * width + column;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float part[4];
        load_vector(from + 4 * half).to_floats(part);
#pragma unroll
        for (int e = 0; e < 4; ++e) sums[4 * half + e] += part[e];
      }
    }
    store_vector((which == 0 ? a.dk : a.dv).row(token) + column, Vector<bf16>::from_floats(sums));
  }
}

template <int kDim>
struct DkvShared {
  Tile<kTileKeys, kDim> k, v;
  Tile<kTileRows, kDim> q[2], dout[2];
  RowFacts facts[2];
  bool is_short[kTileKeys];  // whether the document of a key is
};
static_assert(sizeof(DkvShared<128>) <= 113 * 1024, "two blocks on a multiprocessor of sm_90");

/// dK and dV of 64 keys, 16 a warp, over all rows that see them; those of short documents have been made elsewhere.
template <int kDim>
__global__ void __launch_bounds__(kThreads, 2) attention_dkv_kernel(Backward a) {
  UNFURL_DYNAMIC_SHARED(DkvShared<kDim>, shared);
  const Sizes& sizes = a.sizes;
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp_key = thread / 32 * 16;
  const int kv_head = static_cast<int>(blockIdx.x) % sizes.kv_heads;
  const int first_key = static_cast<int>(blockIdx.x) / sizes.kv_heads * kTileKeys;
  const int covered = sizes.documents.covered();
  int begin = 0, end = 0;  // rows that see the keys of long documents
  if (first_key < covered) {
    const std::int32_t* starts = sizes.documents.cu_seqlens;
    const int last_key = min(first_key + kTileKeys, covered) - 1;
    for (int d = find_document(sizes.documents, first_key); d < sizes.documents.count && starts[d] <= last_key; ++d) {
      if (starts[d + 1] - starts[d] <= sizes.documents.ignored) continue;
      if (end == 0) begin = find_seer(sizes.documents, d, max(first_key, starts[d])) * sizes.group;
      end = starts[d + 1] * sizes.group;
    }
  }
  const int tiles = (end - begin + kTileRows - 1) / kTileRows;
  const auto copy_keys = [&](auto& tile, const Matrix<const bf16>& from) {
    copy_tile<kThreads>(tile, from.data, [&](int r) -> const bf16* {
      return first_key + r < covered ? from.row(first_key + r) + kv_head * kDim : nullptr;
    });
  };
  const auto fetch = [&](int t) {
    const int first = begin + t * kTileRows;
    const auto copy_rows = [&](auto& tile, const Matrix<const bf16>& from) {
      copy_tile<kThreads>(tile, from.data, [&](int r) -> const bf16* {
        return first + r < end ? row_of(from, sizes, kv_head, first + r, kDim) : nullptr;
      });
    };
    copy_rows(shared.q[t % 2], a.q);
    copy_rows(shared.dout[t % 2], a.dout);
  };
  // The first two warps load the facts of the rows of a tile before it is their turn.
  int document = 0;
  if (thread < kTileRows && tiles > 0) document = find_document(sizes.documents, begin / sizes.group);
  Span span = {};
  float lse = 0, delta = 0;
  const auto load_facts = [&](int t) {
    const int row = begin + t * kTileRows + thread;
    if (thread >= kTileRows || row >= end) {
      span = {covered, covered};
      return;
    }
    span = find_span(sizes.documents, document, row / sizes.group, covered);
    const bool ours = !span.empty();
    const Index place = ours ? place_of(sizes, kv_head, row) : 0;
    lse = ours ? a.lse[place] : 0.0f;
    delta = ours ? a.delta[place] : 0.0f;
  };
  const auto store_facts = [&](RowFacts& facts) {
    if (thread >= kTileRows) return;
    facts.spans[thread] = span;
    facts.lse[thread] = lse * kLog2e;
    facts.delta[thread] = delta;
  };
  if (thread < kTileKeys) {
    int of_key = 0;
    if (first_key < covered) of_key = find_document(sizes.documents, first_key);
    const int token = first_key + thread;
    shared.is_short[thread] = token < covered && find_span(sizes.documents, of_key, token, covered).empty();
  }
  KeyGradients<kDim> sums = {};
  if (tiles > 0) {
    copy_keys(shared.k, a.k);
    copy_keys(shared.v, a.v);
    fetch(0);
    load_facts(0);
    store_facts(shared.facts[0]);
    load_facts(1);
  }
  ptx::commit_copies();
  const int key = first_key + warp_key;
  for (int t = 0; t < tiles; ++t) {
    ptx::wait_copies<0>();
    __syncthreads();  // the tile is there for all, and nobody reads the one before
    if (t + 1 < tiles) {
      fetch(t + 1);
      store_facts(shared.facts[(t + 1) % 2]);
      load_facts(t + 2);
    }
    ptx::commit_copies();
    const RowFacts& facts = shared.facts[t % 2];
#pragma unroll 1
    for (int row = 0; row < kTileRows; row += kStep) {
      const Span upper = facts.spans[row], lower = facts.spans[row + kStep - 1];
      if (key >= lower.end || key + 16 <= upper.begin) continue;
      add_rows<kStep>(sums, operands(shared.k, shared.v, warp_key, shared.q[t % 2], shared.dout[t % 2], row), facts,
                      row, key, lower.begin <= key && key + 16 <= upper.end, sizes.scale * kLog2e,
                      [](int, const std::uint32_t(&)[4]) {});
    }
  }
  ptx::wait_copies<0>();
  __syncthreads();
  const auto store = [&](const Matrix<bf16>& to, const float(&values)[kDim / 8][4], float factor) {
    const auto row = [&](int r) {
      const bool ours = key + r < sizes.tokens && !shared.is_short[warp_key + r];
      return ours ? to.row(key + r) + kv_head * kDim : nullptr;
    };
    store_rows(row(lane / 4), row(lane / 4 + 8), values, factor, factor);
  };
  store(a.dk, sums.dk, sizes.scale);
  store(a.dv, sums.dv, 1.0f);
  if (a.splits > 1) sum_splits<kDim>(a, shared.is_short, first_key, kv_head);
}

/// Into how many blocks the heads of a group are divided, so that there are enough for every multiprocessor. Of the
/// shape alone.
int splits_of(const AttentionShape& shape) {
  constexpr Index kBlocks = 264, kWindow = Short<64>::kWindow;
  const Index blocks = (shape.tokens + kWindow - 1) / kWindow * shape.kv_heads, group = shape.heads / shape.kv_heads;
  return static_cast<int>(min(min((kBlocks + blocks - 1) / blocks, Index{8}), group));
}

/// The documents of a form; the rest is left to what follows, but for those of fewer tokens.
template <class Form>
void launch_short(const DeviceQueue& queue, Backward& a) {
  const Index windows = (a.sizes.tokens + Form::kWindow - 1) / Form::kWindow * a.sizes.kv_heads;
  a.sizes.documents.ignored = 0;
  launch(queue, attention_short_backward_kernel<Form>, dim3(static_cast<unsigned>(windows * a.splits)),
         dim3(Form::kThreads), sizeof(ShortShared<Form>), a);
  a.sizes.documents.ignored = Form::kKeys;
}

template <int kDim>
void launch_backward(const DeviceQueue& queue, Backward a) {
  const Sizes& sizes = a.sizes;
  const Index row_tiles = (Index{sizes.tokens} * sizes.group + kTileRows - 1) / kTileRows * sizes.kv_heads;
  const Index key_tiles = (sizes.tokens + kTileKeys - 1) / kTileKeys * sizes.kv_heads;
  launch_short<Short<kDim>>(queue, a);
  if (sizeof(ShortShared<Middle<kDim>>) <= queue.shared_per_block()) launch_short<Middle<kDim>>(queue, a);
  launch(queue, attention_dq_kernel<kDim>, dim3(static_cast<unsigned>(row_tiles)), dim3(kThreads),
         sizeof(DqShared<kDim>), a);
  launch(queue, attention_dkv_kernel<kDim>, dim3(static_cast<unsigned>(key_tiles)), dim3(kThreads),
         sizeof(DkvShared<kDim>), a);
}

}  // namespace

template <class Queue, class T>
void attention_backward(const Queue& queue, Matrix<T> dq, Matrix<T> dk, Matrix<T> dv, Matrix<const T> dout,
                        Matrix<const T> out, const Accumulator<T>* lse, Matrix<const T> q, Matrix<const T> k,
                        Matrix<const T> v, const std::int32_t* cu_seqlens, const std::int32_t* prefix_lengths,
                        const AttentionShape& shape) {
  if (shape.tokens == 0) return;
  const Sizes sizes = sizes_of(shape, cu_seqlens, prefix_lengths);
  const Index rows = shape.heads * shape.tokens;
  if constexpr (std::is_same_v<T, bf16>) {
    const auto aligned = [](const Matrix<const bf16>& matrix) { return vector_aligned(matrix.data, matrix.stride); };
    if ((shape.head_dim == 64 || shape.head_dim == 128) && aligned(dq) && aligned(dk) && aligned(dv) && aligned(dout) &&
        aligned(out) && aligned(q) && aligned(k) && aligned(v)) {
      const int splits = splits_of(shape);
      const Index partials = splits > 1 ? splits * 2 * shape.tokens * shape.kv_heads * shape.head_dim : 0;
      float* scratch = static_cast<float*>(queue.scratch(static_cast<std::size_t>(partials + rows) * sizeof(float)));
      const Backward a = {dq, dk, dv, dout, out, lse, scratch + partials, q, k, v, sizes, splits, scratch};
      return shape.head_dim == 64 ? launch_backward<64>(queue, a) : launch_backward<128>(queue, a);
    }
  }
  float* delta = static_cast<float*>(queue.scratch(static_cast<std::size_t>(rows) * sizeof(float)));
  general_backward<T>(queue, {dq, dk, dv, dout, out, lse, delta, q, k, v, sizes});
}

#define UNFURL_INSTANTIATE(T)                                                                                        \
  template void attention_backward(const DeviceQueue&, Matrix<T>, Matrix<T>, Matrix<T>, Matrix<const T>,             \
                                   Matrix<const T>, const float*, Matrix<const T>, Matrix<const T>, Matrix<const T>, \
                                   const std::int32_t*, const std::int32_t*, const AttentionShape&);
UNFURL_INSTANTIATE(float)
UNFURL_INSTANTIATE(bf16)
#undef UNFURL_INSTANTIATE

}  // namespace unfurl::kernels
