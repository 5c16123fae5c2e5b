// Attention forward on a GPU. kernels/attention.h holds the contract, kernels/attention.cuh the layout of rows.
//
// bf16 with heads of 64 or 128: a block takes 1 to 8 tiles of query rows, 16 rows a warp, and walks over the 64-key
// tiles that they see, all but one of its kSlots in flight. S = Q K^T is in registers, where it is scaled, masked and
// exponentiated, and becomes the operand of O += P V as it is. Groups of 32 keys that a warp's rows do not see are left
// out, so short documents cost little more than their own triangles. Key tiles stay in their slots, and the next rows
// of the block find them there: with four slots K and V of documents of up to 256 tokens are whole in shared memory.
//
//  T 256, causal, per document and key-value head | multi-head D 64 | D 128       | multi-query, 16 heads of 128
//  bytes read and written                         | 128 KiB         | 256 KiB     | 2.1 MiB
//  products, of 32-key groups                     | 9.4 MFLOP       | 19          | 302 MFLOP
//  K and V from L2                                | 64 KiB          | 224 KiB     | 0.3 (8 tiles a block) to 2.2 MiB
//
//  form        | rows of a tile | warps | slots | KiB of shared memory | blocks of an sm_90 SM | of an sm_80 SM
//  D 64        |             64 |     4 |     4 |                   73 |                     3 |              2
//  D 128       |             64 |     4 |     2 |                   81 |                     2 |              2
//  D 128, many |            128 |     8 |     4 |                  161 |                     1 |              1
//
// `many` is for groups of kManyHeads query heads and more, whose rows would read K and V from L2 again and again. With
// few, two blocks that do not wait for each other keep the memory busier, and read most of it once.
#include "kernels/attention.cuh"
#include "kernels/attention_general.cuh"

namespace unfurl::kernels {
namespace {

constexpr int kTileKeys = 64, kStep = 32, kManyHeads = 4;

struct Forward {
  Matrix<bf16> out;
  float* lse;  // may be null
  Matrix<const bf16> q, k, v;
  Sizes sizes;
  int tiles;  // of rows, in a block
};

template <int kDim_, int kWarps, int kSlots_, int kBlocks_, int kMostTiles_>
struct ForwardForm {
  static constexpr int kDim = kDim_, kThreads = 32 * kWarps, kRows = 16 * kWarps, kSlots = kSlots_;
  static constexpr int kBlocks = kBlocks_;        // of an sm_90 multiprocessor, as far as registers go
  static constexpr int kMostTiles = kMostTiles_;  // of rows, in a block
};
using Forward64 = ForwardForm<64, 4, 4, 3, 4>;
using Forward128 = ForwardForm<128, 4, 2, 2, 4>;
using Forward128Many = ForwardForm<128, 8, 4, 1, 8>;

template <class Form>
struct ForwardShared {
  Tile<Form::kRows, Form::kDim> q;
  Tile<kTileKeys, Form::kDim> k[Form::kSlots], v[Form::kSlots];
  Span spans[Form::kRows];
};
static_assert(sizeof(ForwardShared<Forward64>) <= 75 * 1024, "three blocks on a multiprocessor of sm_90, two on sm_80");
static_assert(sizeof(ForwardShared<Forward128>) <= 81 * 1024, "two blocks on a multiprocessor of sm_90 and sm_80");
static_assert(sizeof(ForwardShared<Forward128Many>) <= 163 * 1024, "one block on a multiprocessor of sm_80");

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

template <class Form>
__global__ void __launch_bounds__(Form::kThreads, Form::kBlocks) attention_forward_kernel(Forward a) {
  constexpr int kDim = Form::kDim, kThreads = Form::kThreads, kRows = Form::kRows, kSlots = Form::kSlots;
  UNFURL_DYNAMIC_SHARED(ForwardShared<Form>, shared);
  const Sizes& sizes = a.sizes;
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp_row = thread / 32 * 16;
  const int kv_head = static_cast<int>(blockIdx.x) % sizes.kv_heads;
  const int first_row = static_cast<int>(blockIdx.x) / sizes.kv_heads * a.tiles * kRows;
  const int covered = sizes.documents.covered(), rows = sizes.rows();
  const int tiles = min(a.tiles, (rows - first_row + kRows - 1) / kRows);
  const float scale = sizes.scale * kLog2e;
  int document = 0;  // of the row this thread finds the span of
  if (thread < kRows && first_row / sizes.group < covered) {
    document = find_document(sizes.documents, first_row / sizes.group);
  }
  const auto copy_queries = [&](int tile) {
    copy_tile<kThreads>(shared.q, a.q.data, [&](int r) -> const bf16* {
      const int row = first_row + tile * kRows + r;
      return row < covered * sizes.group ? row_of(a.q, sizes, kv_head, row, kDim) : nullptr;
    });
  };
  copy_queries(0);
  // Key 0 of tile 0; the last key tile that was copied, and as many before it as there are slots are there. Since the
  // keys of rows never begin before those of earlier rows, none that is asked for was skipped.
  int origin = 0, last = -1;
  for (int tile = 0; tile < tiles; ++tile) {
    const int tile_row = first_row + tile * kRows;
    if (tile > 0) __syncthreads();  // all have read the spans, even of a tile that sees no keys
    if (thread < kRows) {
      shared.spans[thread] = find_span(sizes.documents, document, (tile_row + thread) / sizes.group, covered);
    }
    __syncthreads();
    if (tile == 0) origin = shared.spans[0].begin;
    const int last_key = shared.spans[kRows - 1].end;
    const int begin = (shared.spans[0].begin - origin) / kTileKeys,
              end = (last_key - origin + kTileKeys - 1) / kTileKeys;
    const auto fetch = [&](int t) {
      if (t >= end || (t <= last && t > last - kSlots)) return;
      last = t;
      const int slot = t % kSlots, key = origin + t * kTileKeys;
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
#pragma unroll 1
    for (int t = begin; t < begin + kSlots - 1; ++t) {
      fetch(t);
      ptx::commit_copies();
    }
    for (int t = begin; t < end; ++t) {
      ptx::wait_copies<kSlots - 2>();
      __syncthreads();  // the tile is there for all, and nobody reads the one before
      if (t == begin) {
#pragma unroll
        for (int d = 0; d < kDim / 16; ++d) ptx::load_matrices(q[d], fragment_at(along(shared.q, warp_row), 2 * d));
        if (tile + 1 < tiles) {
          __syncthreads();  // all have their rows in registers
          copy_queries(tile + 1);
        }
      }
      fetch(t + kSlots - 1);
      ptx::commit_copies();
#pragma unroll 1
      for (int step = 0; step < kTileKeys; step += kStep) {
        const int key = origin + t * kTileKeys + step;
        if (key >= any.end || key + kStep <= any.begin) continue;
        attend(state, q, across(shared.k[t % kSlots], step), along(shared.v[t % kSlots], step), key, seen,
               all.begin <= key && key + kStep <= all.end, scale);
      }
    }
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
  ptx::wait_copies<0>();
}

/// Enough blocks for every multiprocessor, then longer ones, which read keys less often. Of the shape alone.
template <class Form>
void launch_forward(const DeviceQueue& queue, Forward a) {
  constexpr Index kEnough = Form::kBlocks == 1 ? 132 : 264;
  const Index rows = Index{a.sizes.tokens} * a.sizes.group, tiles = (rows + Form::kRows - 1) / Form::kRows;
  a.tiles = static_cast<int>(min(max(tiles * a.sizes.kv_heads / kEnough, Index{1}), Index{Form::kMostTiles}));
  const Index blocks = (tiles + a.tiles - 1) / a.tiles * a.sizes.kv_heads;
  launch(queue, attention_forward_kernel<Form>, dim3(static_cast<unsigned>(blocks)), dim3(Form::kThreads),
         sizeof(ForwardShared<Form>), a);
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
    const Forward a = {out, lse, q, k, v, sizes, 0};
    if (aligned && shape.head_dim == 64) return launch_forward<Forward64>(queue, a);
    if (aligned && shape.head_dim == 128) {
      return sizes.group < kManyHeads ? launch_forward<Forward128>(queue, a) : launch_forward<Forward128Many>(queue, a);
    }
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
