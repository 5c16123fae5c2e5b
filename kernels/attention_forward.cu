// Attention forward on a GPU. kernels/attention.h holds the contract, kernels/attention.cuh the layout of rows.
//
// bf16 with heads of 64 or 128: a block of four warps takes kTileRows x (1 to 4) query rows, the warp 16 of each tile,
// and walks over the 64-key tiles that they see, two in flight. S = Q K^T is in registers, where it is scaled, masked
// and exponentiated, and becomes the operand of O += P V as it is. Groups of 32 keys that a warp's rows do not see are
// left out, so short documents cost little more than their own triangles. Where all keys of a block fit the two tiles
// (documents up to some 128 tokens), its tiles of rows find them there.
//
//  T 128, causal, per document and key-value head | multi-head D 64 | multi-query, 16 heads of 128
//  bytes read and written                         | 64 KiB          | 1.1 MiB
//  products, of 32-key groups                     | 2.7 MFLOP       | 87 MFLOP
//  L2 to shared memory over bytes read, about     | 1.5             | 1.2
//
//  shared memory a block: 41 KiB (D 64), 81 KiB (D 128); registers at most 168 and 255; so three and two blocks, 12
//  and 8 warps, run on a multiprocessor, one copying while others multiply.
#include "kernels/attention.cuh"
#include "kernels/attention_general.cuh"

namespace unfurl::kernels {
namespace {

constexpr int kThreads = 128, kTileRows = 64, kTileKeys = 64, kStep = 32;

struct Forward {
  Matrix<bf16> out;
  float* lse;  // may be null
  Matrix<const bf16> q, k, v;
  Sizes sizes;
  int tiles;  // of rows, in a block
};

template <int kDim>
struct ForwardShared {
  Tile<kTileRows, kDim> q;
  Tile<kTileKeys, kDim> k[2], v[2];
  Span spans[kTileRows];
};
static_assert(sizeof(ForwardShared<128>) <= 113 * 1024, "two blocks on a multiprocessor of sm_90, one on sm_80");

/// What a warp keeps of its 16 rows; element 0 is row g, 1 is row g + 8.
template <int kDim>
struct RowState {
  float out[kDim / 8][4];
  float greatest[2], sum[2];
};

/// The kStep keys from `key` on, whose fragments start at k (across) and v (along) and follow at each 16 rows. `seen`
/// are the keys of the rows g and g + 8; `whole`: every row of the warp sees them all.
template <int kDim>
UNFURL_DEVICE void attend(RowState<kDim>& state, const std::uint32_t (&q)[kDim / 16][4], std::uint32_t k,
                          std::uint32_t v, int key, const Span (&seen)[2], bool whole, float scale) {
  constexpr int kTiles = kStep / 8;
  constexpr std::uint32_t kBytes = 16 * kDim * sizeof(bf16);  // of 16 rows
  float s[kTiles][4];
#pragma unroll
  for (int n = 0; n < kTiles; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) s[n][i] = 0;
  }
#pragma unroll
  for (int d = 0; d < kDim / 16; ++d) {
#pragma unroll
    for (int n = 0; n < kTiles; n += 2) {
      std::uint32_t b[4];
      ptx::load_matrices(b, fragment_at(k, 2 * d) + n / 2 * kBytes);
      multiply(s[n], s[n + 1], q[d], b);
    }
  }
  const int lane = static_cast<int>(threadIdx.x) % 32;
  float greatest[2] = {state.greatest[0], state.greatest[1]};
#pragma unroll
  for (int n = 0; n < kTiles; ++n) {
    const int column = key + n * 8 + lane % 4 * 2;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      s[n][i] *= scale;
      if (!whole) s[n][i] = seen[i / 2].has(column + i % 2) ? s[n][i] : -INFINITY;
      greatest[i / 2] = fmaxf(greatest[i / 2], s[n][i]);
    }
  }
  float base[2];
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    greatest[r] = quad_max(greatest[r]);
    base[r] = greatest[r] == -INFINITY ? 0.0f : greatest[r];  // no key yet
    const float shrink = ptx::ex2(state.greatest[r] - base[r]);
    state.greatest[r] = greatest[r];
    state.sum[r] *= shrink;
#pragma unroll
    for (int t = 0; t < kDim / 8; ++t) {
      state.out[t][2 * r] *= shrink;
      state.out[t][2 * r + 1] *= shrink;
    }
  }
#pragma unroll
  for (int n = 0; n < kTiles; n += 2) {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      float& p = s[n + i / 4][i % 4];
      p = ptx::ex2(p - base[i / 2 % 2]);
      state.sum[i / 2 % 2] += p;
    }
    std::uint32_t p[4];
    as_operand(p, s[n], s[n + 1]);
#pragma unroll
    for (int t = 0; t < kDim / 8; t += 2) {
      std::uint32_t b[4];
      ptx::load_matrices_transposed(b, fragment_at(v, t) + n / 2 * kBytes);
      multiply(state.out[t], state.out[t + 1], p, b);
    }
  }
}

template <int kDim>
__global__ void __launch_bounds__(kThreads, kDim == 64 ? 3 : 2) attention_forward_kernel(Forward a) {
  UNFURL_DYNAMIC_SHARED(ForwardShared<kDim>, shared);
  const Sizes& sizes = a.sizes;
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp_row = thread / 32 * 16;
  const int kv_head = static_cast<int>(blockIdx.x) % sizes.kv_heads;
  const int first_row = static_cast<int>(blockIdx.x) / sizes.kv_heads * a.tiles * kTileRows;
  const int covered = sizes.documents.covered(), rows = sizes.rows();
  const float scale = sizes.scale * kLog2e;
  int document = 0;  // of the row this thread finds the span of
  if (thread < kTileRows && first_row / sizes.group < covered) {
    document = find_document(sizes.documents, first_row / sizes.group);
  }
  int origin = 0, held[2] = {-1, -1};  // key 0 of tile 0; the tiles in shared memory
  for (int tile = 0; tile < a.tiles; ++tile) {
    const int tile_row = first_row + tile * kTileRows;
    if (tile_row >= rows) break;
    if (tile > 0) __syncthreads();  // the last tile's rows and keys have been used
    copy_tile<kThreads>(shared.q, a.q.data, [&](int r) -> const bf16* {
      const int row = tile_row + r;
      return row < covered * sizes.group ? row_of(a.q, sizes, kv_head, row, kDim) : nullptr;
    });
    if (thread < kTileRows) {
      shared.spans[thread] = find_span(sizes.documents, document, (tile_row + thread) / sizes.group, covered);
    }
    __syncthreads();
    if (tile == 0) origin = shared.spans[0].begin;
    const int last_key = shared.spans[kTileRows - 1].end;
    const int begin = (shared.spans[0].begin - origin) / kTileKeys,
              end = (last_key - origin + kTileKeys - 1) / kTileKeys;
    const auto fetch = [&](int t) {
      const int slot = t % 2;
      if ((slot == 0 ? held[0] : held[1]) == t) return;
      (slot == 0 ? held[0] : held[1]) = t;
      const int key = origin + t * kTileKeys;
      const auto rows_of = [&](const Matrix<const bf16>& matrix) {
        return [&matrix, key, covered, kv_head](int r) -> const bf16* {
          return key + r < covered ? matrix.row(key + r) + kv_head * kDim : nullptr;
        };
      };
      copy_tile<kThreads>(shared.k[slot], a.k.data, rows_of(a.k));
      copy_tile<kThreads>(shared.v[slot], a.v.data, rows_of(a.v));
    };
    const Span seen[2] = {shared.spans[warp_row + lane / 4], shared.spans[warp_row + lane / 4 + 8]};
    const Span upper = shared.spans[warp_row], lower = shared.spans[warp_row + 15];
    const Span any = {upper.begin, lower.end}, all = {lower.begin, upper.end};
    RowState<kDim> state = {};
    state.greatest[0] = state.greatest[1] = -INFINITY;
    std::uint32_t q[kDim / 16][4];
    if (begin < end) fetch(begin);
    ptx::commit_copies();
    for (int t = begin; t < end; ++t) {
      ptx::wait_copies<0>();
      __syncthreads();  // the tile is there for all, and nobody reads the one before
      if (t == begin) {
#pragma unroll
        for (int d = 0; d < kDim / 16; ++d) ptx::load_matrices(q[d], fragment_at(along(shared.q, warp_row), 2 * d));
      }
      if (t + 1 < end) fetch(t + 1);
      ptx::commit_copies();
#pragma unroll 1
      for (int step = 0; step < kTileKeys; step += kStep) {
        const int key = origin + t * kTileKeys + step;
        if (key >= any.end || key + kStep <= any.begin) continue;
        attend(state, q, across(shared.k[t % 2], step), along(shared.v[t % 2], step), key, seen,
               all.begin <= key && key + kStep <= all.end, scale);
      }
    }
    ptx::wait_copies<0>();
    bf16* out[2];
    float factor[2];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int row = tile_row + warp_row + lane / 4 + 8 * r;
      const float sum = quad_sum(state.sum[r]);
      out[r] = row < rows ? row_of(a.out, sizes, kv_head, row, kDim) : nullptr;
      factor[r] = sum > 0.0f ? 1.0f / sum : 0.0f;
      if (a.lse != nullptr && lane % 4 == 0 && row < rows) {
        a.lse[place_of(sizes, kv_head, row)] = sum > 0.0f ? state.greatest[r] * kLn2 + logf(sum) : 0.0f;
      }
    }
    store_rows(out[0], out[1], state.out, factor[0], factor[1]);
  }
}

/// Enough blocks for every multiprocessor, then longer ones, which read keys less often. Of the shape alone.
int tiles_in_block(const Sizes& sizes, int tiles) {
  constexpr int kBlocks = 264;
  return static_cast<int>(min(max(Index{tiles} * sizes.kv_heads / kBlocks, Index{1}), Index{4}));
}

template <int kDim>
void launch_forward(const DeviceQueue& queue, Forward a) {
  const int tiles = static_cast<int>((Index{a.sizes.tokens} * a.sizes.group + kTileRows - 1) / kTileRows);
  a.tiles = tiles_in_block(a.sizes, tiles);
  const int blocks = (tiles + a.tiles - 1) / a.tiles * a.sizes.kv_heads;
  launch(queue, attention_forward_kernel<kDim>, dim3(static_cast<unsigned>(blocks)), dim3(kThreads),
         sizeof(ForwardShared<kDim>), a);
}

}  // namespace

template <class Queue, class T>
void attention_forward(const Queue& queue, Matrix<T> out, Accumulator<T>* lse, Matrix<const T> q, Matrix<const T> k,
                       Matrix<const T> v, const std::int32_t* cu_seqlens, const std::int32_t* prefix_lengths,
                       const AttentionShape& shape) {
  if (shape.tokens == 0) return;
  const Sizes sizes = sizes_of(shape, cu_seqlens, prefix_lengths);
  if constexpr (std::is_same_v<T, bf16>) {
    const bool aligned = vector_aligned(out.data, out.stride) && vector_aligned(q.data, q.stride) &&
                         vector_aligned(k.data, k.stride) && vector_aligned(v.data, v.stride);
    if (aligned && shape.head_dim == 64) return launch_forward<64>(queue, {out, lse, q, k, v, sizes, 0});
    if (aligned && shape.head_dim == 128) return launch_forward<128>(queue, {out, lse, q, k, v, sizes, 0});
  }
  general_forward<T>(queue, {out, lse, q, k, v, sizes});
}

#define UNFURL_INSTANTIATE(T)                                                                              \
  template void attention_forward(const DeviceQueue&, Matrix<T>, float*, Matrix<const T>, Matrix<const T>, \
                                  Matrix<const T>, const std::int32_t*, const std::int32_t*, const AttentionShape&);
UNFURL_INSTANTIATE(float)
UNFURL_INSTANTIATE(bf16)
#undef UNFURL_INSTANTIATE

}  // namespace unfurl::kernels
