// The gradients of attention over documents of at most kShortKeys tokens: dQ, dK and dV of a document come from one
// block, which reads everything once.
//
// A block of eight warps owns the short documents that begin in its window of kWindow tokens, for one key-value head
// and some or all of the query heads that share it. It takes as many of them at a time as fit kShortKeys keys. Their K
// and V stay in shared memory, dK and dV in registers, 16 keys a warp. Over the rows, tokens times heads, in tiles of
// 64:
//
//  1. Q, dO and O have been copied (the next tile's are, meanwhile); each quad of lanes makes delta of a row;
//  2. each warp makes S^T and dP^T for its keys, so P^T and dS^T, which are operands of dV and dK as they are; dS^T
//     also goes to shared memory;
//  3. each warp makes 16 rows and half of the columns of dQ = scale dS K over all keys, and writes it.
#pragma once
#include "kernels/attention_backward.cuh"

namespace unfurl::kernels {
namespace {

constexpr int kShortKeys = 128, kWindow = 64, kShortThreads = 256;

template <int kDim>
struct ShortShared {
  Tile<kShortKeys, kDim> k, v;
  Tile<kTileRows, kDim> q[2], dout[2], out;
  Tile<kShortKeys, kTileRows> ds;  // [key][row]
  RowFacts facts;
};
static_assert(sizeof(ShortShared<128>) <= 163 * 1024, "one block on a multiprocessor of sm_80");

/// The query rows of a block: tokens [begin, end) times `heads` heads from `first_head` on.
struct ShortRows {
  int begin, end, first_head, heads;

  UNFURL_DEVICE int count() const { return (end - begin) * heads; }
  UNFURL_DEVICE int token(int row) const { return begin + row / heads; }
  UNFURL_DEVICE int head(int row) const { return first_head + row % heads; }
  template <class T>
  UNFURL_DEVICE T* of(const Matrix<T>& matrix, int row, int dim) const {
    return matrix.row(token(row)) + head(row) * dim;
  }
};

/// All gradients of the documents of tokens [rows.begin, rows.end), at most kShortKeys.
template <int kDim>
UNFURL_DEVICE void short_gradients(ShortShared<kDim>& shared, const Backward& a, const ShortRows& rows, int kv_head,
                                   int document, int split) {
  const Sizes& sizes = a.sizes;
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32, warp_key = warp * 16;
  const auto copy_rows = [&](auto& tile, const Matrix<const bf16>& from, int t) {
    copy_tile<kShortThreads>(tile, from.data, [&](int r) -> const bf16* {
      const int row = t * kTileRows + r;
      return row < rows.count() ? rows.of(from, row, kDim) : nullptr;
    });
  };
  const auto copy_keys = [&](auto& tile, const Matrix<const bf16>& from) {
    copy_tile<kShortThreads>(tile, from.data, [&](int r) -> const bf16* {
      return rows.begin + r < rows.end ? from.row(rows.begin + r) + kv_head * kDim : nullptr;
    });
  };
  // The first two warps load what the rows of a tile need before it is their turn.
  Span span = {};
  float lse = 0;
  const auto load_facts = [&](int t) {
    const int row = t * kTileRows + thread;
    span = {rows.end, rows.end};
    if (thread >= kTileRows || row >= rows.count()) return;
    span = find_span(sizes.documents, document, rows.token(row), rows.end);
    lse = a.lse[Index{rows.head(row)} * sizes.tokens + rows.token(row)];
  };
  __syncthreads();  // what was there before has been used
  copy_keys(shared.k, a.k);
  copy_keys(shared.v, a.v);
  copy_rows(shared.q[0], a.q, 0);
  copy_rows(shared.dout[0], a.dout, 0);
  copy_rows(shared.out, a.out, 0);
  ptx::commit_copies();
  load_facts(0);
  KeyGradients<kDim> sums = {};
  const int tiles = (rows.count() + kTileRows - 1) / kTileRows, key = rows.begin + warp_key;
  for (int t = 0; t < tiles; ++t) {
    const auto& q = shared.q[t % 2];
    const auto& dout = shared.dout[t % 2];
    ptx::wait_copies<0>();
    __syncthreads();  // the tile is there for all, and nobody uses the one before
    if (t + 1 < tiles) {
      copy_rows(shared.q[(t + 1) % 2], a.q, t + 1);
      copy_rows(shared.dout[(t + 1) % 2], a.dout, t + 1);
    }
    if (thread < kTileRows) {
      shared.facts.spans[thread] = span;
      shared.facts.lse[thread] = lse * kLog2e;
    }
    load_facts(t + 1);
    {
      const int row = warp * 8 + lane / 4;
      float delta = 0;
#pragma unroll
      for (int piece = lane % 4; piece < kDim / 8; piece += 4) {
        const uint4 x = dout.at(row, piece), y = shared.out.at(row, piece);
        delta += dot_pair(x.x, y.x) + dot_pair(x.y, y.y) + dot_pair(x.z, y.z) + dot_pair(x.w, y.w);
      }
      delta = quad_sum(delta);
      if (lane % 4 == 0) shared.facts.delta[row] = delta;
    }
    __syncthreads();
    if (t + 1 < tiles) copy_rows(shared.out, a.out, t + 1);
    ptx::commit_copies();
    const RowFacts& facts = shared.facts;
#pragma unroll 1
    for (int row = 0; row < kTileRows; row += kStep) {
      const Span upper = facts.spans[row], lower = facts.spans[row + kStep - 1];
      if (key >= lower.end || key + 16 <= upper.begin) continue;
      const auto keep = [&](int n, const std::uint32_t(&words)[4]) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {  // rows g and g + 8 of n-tile n, then of n + 1
          shared.ds.word(warp_key + lane / 4 + i % 2 * 8, row / 8 + n + i / 2, lane % 4) = words[i];
        }
      };
      add_rows(sums, operands(shared.k, shared.v, warp_key, q, dout, row), facts, row, key,
               lower.begin <= key && key + 16 <= upper.end, sizes.scale * kLog2e, keep);
    }
    __syncthreads();
    constexpr int kTiles = kDim / 16;  // half of the columns
    const int row = warp % 4 * 16, column = warp / 4 * kTiles;
    const Span upper = facts.spans[row], lower = facts.spans[row + 15];
    float dq[kTiles][4] = {};
#pragma unroll 1
    for (int first = 0; first < kShortKeys; first += 16) {
      if (rows.begin + first >= lower.end || rows.begin + first + 16 <= upper.begin) continue;
      std::uint32_t ds[4];
      ptx::load_matrices_transposed(ds, fragment_at(across(shared.ds, first), row / 8));
      const std::uint32_t k = fragment_at(along(shared.k, first), column);
#pragma unroll
      for (int n = 0; n < kTiles; n += 2) {
        std::uint32_t b[4];
        ptx::load_matrices_transposed(b, fragment_at(k, n));
        multiply(dq[n], dq[n + 1], ds, b);
      }
    }
    const auto to = [&](int r) {
      const int at = t * kTileRows + row + r;
      return at < rows.count() ? rows.of(a.dq, at, kDim) + column * 8 : nullptr;
    };
    store_rows(to(lane / 4), to(lane / 4 + 8), dq, sizes.scale, sizes.scale);
  }
  ptx::wait_copies<0>();
  const int width = sizes.kv_heads * kDim;
  const auto store = [&](const Matrix<bf16>& to, int which, const float(&values)[kDim / 8][4], float factor) {
    if (a.splits == 1) {
      const auto row = [&](int r) { return key + r < rows.end ? to.row(key + r) + kv_head * kDim : nullptr; };
      store_rows(row(lane / 4), row(lane / 4 + 8), values, factor, factor);
      return;
    }
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int token = key + lane / 4 + 8 * r;
      if (token >= rows.end) continue;
      float* from = a.partials + ((Index{split} * 2 + which) * sizes.tokens + token) * width + kv_head * kDim;
#pragma unroll
      for (int n = 0; n < kDim / 8; ++n) {
        *reinterpret_cast<float2*>(from + n * 8 + lane % 4 * 2) =
            make_float2(values[n][2 * r] * factor, values[n][2 * r + 1] * factor);
      }
    }
  };
  store(a.dk, 0, sums.dk, sizes.scale);
  store(a.dv, 1, sums.dv, 1.0f);
}

template <int kDim>
__global__ void __launch_bounds__(kShortThreads, 1) attention_short_backward_kernel(Backward a) {
  UNFURL_DYNAMIC_SHARED(ShortShared<kDim>, shared);
  const Sizes& sizes = a.sizes;
  const Documents& documents = sizes.documents;
  const int block = static_cast<int>(blockIdx.x), split = block % a.splits;
  const int kv_head = block / a.splits % sizes.kv_heads, window = block / a.splits / sizes.kv_heads * kWindow;
  const int first_head = split * sizes.group / a.splits, heads = (split + 1) * sizes.group / a.splits - first_head;
  const int covered = documents.covered(), limit = min(window + kWindow, covered);
  const std::int32_t* starts = documents.cu_seqlens;
  if (window >= covered) return;
  int document = window == 0 ? 0 : find_document(documents, window - 1) + 1;
  while (document < documents.count && starts[document] < limit) {
    const int first = document, begin = starts[first];
    int end = begin;
    while (document < documents.count && starts[document] < limit && starts[document + 1] - begin <= kShortKeys) {
      end = starts[++document];
    }
    if (end == begin) {  // a long document, or empty ones before it
      ++document;
      continue;
    }
    short_gradients<kDim>(shared, a, {begin, end, kv_head * sizes.group + first_head, heads}, kv_head, first, split);
  }
}

}  // namespace
}  // namespace unfurl::kernels
