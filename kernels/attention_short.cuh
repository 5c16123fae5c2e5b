// The gradients of attention over short documents: dQ, dK and dV of a document come from one block, which has its K and
// V whole in shared memory and reads them once. Documents of at most 128 tokens and those of 129 to 256 are done in two
// launches of one kernel, whose ShortForms differ in what they hold:
//
//                       | tokens   | warps | passes | rows of a tile | KiB of shared memory
//  Short<64>            |  1..128  |     8 |      1 |             64 |                   89
//  Short<128>           |  1..128  |     8 |      1 |             64 |                  161
//  Middle<64>           | 129..256 |    16 |      1 |             64 |                  137
//  Middle<128>          | 129..256 |     8 |      2 |             32 |                  185
//
// A block owns the documents of its form that begin in its window of tokens, for one key-value head and some or all of
// the query heads that share it. It takes as many of them at a time as fit kKeys keys. dK and dV are in registers, 16
// keys a warp. Over the rows, tokens times heads, in tiles:
//
//  1. Q, dO and O have been copied (the next tile's are, meanwhile); each quad of lanes makes delta of a row;
//  2. each warp makes S^T and dP^T for its keys, so P^T and dS^T, which are operands of dV and dK as they are; dS^T
//     also goes to shared memory;
//  3. each warp makes 16 rows and some of the columns of dQ = scale dS K over all keys, and writes it.
//
// dK and dV of 256 keys of 128 would fill all registers of a multiprocessor, so there Middle<128> makes them in two
// passes of 128 keys. The second has the rows that see its keys alone, and makes the dS^T of the first 128 once more
// for their dQ: 12 units of products where two kernels that share nothing would need 14.
#pragma once
#include "kernels/attention_backward.cuh"

namespace unfurl::kernels {
namespace {

template <int kDim_, int kWarps_, int kPasses_, int kRows_, int kBeyond_, int kWindow_>
struct ShortForm {
  static constexpr int kDim = kDim_, kWarps = kWarps_, kThreads = 32 * kWarps_, kPasses = kPasses_, kRows = kRows_;
  static constexpr int kPart = 16 * kWarps, kKeys = kPart * kPasses;  // keys in a pass, and in all
  static constexpr int kStep = kBeyond_ == 0 ? 32 : 16;               // rows at a time, as registers allow
  static constexpr int kBeyond = kBeyond_;                            // documents have more tokens than this
  static constexpr int kWindow = kWindow_;
  // One document begins in a window, at most.
  static constexpr bool kOne = kWindow <= kBeyond + 1;
  static_assert(kPasses == 1 || kOne);
};
template <int kDim>
using Short = ShortForm<kDim, 8, 1, 64, 0, 64>;
template <int kDim>
using Middle = ShortForm<kDim, kDim == 64 ? 16 : 8, kDim == 64 ? 1 : 2, kDim == 64 ? 64 : 32, 128, 128>;

template <class Form>
struct ShortShared {
  static constexpr int kDim = Form::kDim;
  Tile<Form::kKeys, kDim> k, v;
  Tile<Form::kRows, kDim> q[2], dout[2], out;
  Tile<Form::kKeys, Form::kRows> ds;  // [key][row]
  RowFacts facts;
};
static_assert(sizeof(ShortShared<Short<128>>) <= 163 * 1024, "one block on a multiprocessor of sm_80");
static_assert(sizeof(ShortShared<Middle<64>>) <= 163 * 1024, "one block on a multiprocessor of sm_80");
static_assert(sizeof(ShortShared<Middle<128>>) <= 227 * 1024, "one block on a multiprocessor of sm_90");

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

/// dK and dV of a warp's keys [key, key + 16), of which those before `end` are there.
template <int kDim>
UNFURL_DEVICE void store_short_keys(const Backward& a, const KeyGradients<kDim>& sums, int key, int end, int kv_head,
                                    int split) {
  const Sizes& sizes = a.sizes;
  const int lane = static_cast<int>(threadIdx.x) % 32, width = sizes.kv_heads * kDim;
  const auto store = [&](const Matrix<bf16>& to, int which, const float(&values)[kDim / 8][4], float factor) {
    if (a.splits == 1) {
      const auto row = [&](int r) { return key + r < end ? to.row(key + r) + kv_head * kDim : nullptr; };
      store_rows(row(lane / 4), row(lane / 4 + 8), values, factor, factor);
      return;
    }
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int token = key + lane / 4 + 8 * r;
      if (token >= end) continue;
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

/// All gradients of the documents of tokens [rows.begin, rows.end), at most kKeys, the first of which is `document`.
template <class Form>
UNFURL_DEVICE void short_gradients(ShortShared<Form>& shared, const Backward& a, const ShortRows& rows, int kv_head,
                                   int document, int split) {
  constexpr int kDim = Form::kDim, kRows = Form::kRows;
  const Sizes& sizes = a.sizes;
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32, warp_key = warp * 16;
  const auto copy_rows = [&](auto& tile, const Matrix<const bf16>& from, int t) {
    copy_tile<Form::kThreads>(tile, from.data, [&](int r) -> const bf16* {
      const int row = t * kRows + r;
      return row < rows.count() ? rows.of(from, row, kDim) : nullptr;
    });
  };
  const auto copy_keys = [&](auto& tile, const Matrix<const bf16>& from) {
    copy_tile<Form::kThreads>(tile, from.data, [&](int r) -> const bf16* {
      return rows.begin + r < rows.end ? from.row(rows.begin + r) + kv_head * kDim : nullptr;
    });
  };
  // The first warps load what the rows of a tile need before it is their turn.
  Span span = {};
  float lse = 0;
  const auto load_facts = [&](int t) {
    const int row = t * kRows + thread;
    span = {rows.end, rows.end};
    if (thread >= kRows || row >= rows.count()) return;
    span = find_span(sizes.documents, document, rows.token(row), rows.end);
    lse = a.lse[Index{rows.head(row)} * sizes.tokens + rows.token(row)];
  };
  const int tiles = (rows.count() + kRows - 1) / kRows;
  // The tiles from this one on have rows that see keys of the second pass.
  int second = tiles;
  if constexpr (Form::kPasses == 2) {
    const int seer = find_seer(sizes.documents, document, rows.begin + Form::kPart);
    second = (seer - rows.begin) * rows.heads / kRows;
  }
  __syncthreads();  // what was there before has been used
  copy_keys(shared.k, a.k);
  copy_keys(shared.v, a.v);
#pragma unroll 1
  for (int pass = 0; pass < Form::kPasses; ++pass) {
    const int first = pass == 0 ? 0 : second;
    copy_rows(shared.q[first % 2], a.q, first);
    copy_rows(shared.dout[first % 2], a.dout, first);
    copy_rows(shared.out, a.out, first);
    ptx::commit_copies();
    load_facts(first);
    KeyGradients<kDim> sums = {};
    for (int t = first; t < tiles; ++t) {
      const auto& q = shared.q[t % 2];
      const auto& dout = shared.dout[t % 2];
      ptx::wait_copies<0>();
      __syncthreads();  // the tile is there for all, and nobody uses the one before
      if (t + 1 < tiles) {
        copy_rows(shared.q[(t + 1) % 2], a.q, t + 1);
        copy_rows(shared.dout[(t + 1) % 2], a.dout, t + 1);
      }
      if (thread < kRows) {
        shared.facts.spans[thread] = span;
        shared.facts.lse[thread] = lse * kLog2e;
      }
      if (warp < kRows / 8) {
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
      // dQ of a tile is made in the last pass that has it, from the dS of all keys.
      const bool dq_here = Form::kPasses == 1 || pass == 1 || t < second;
#pragma unroll 1
      for (int part = dq_here ? 0 : pass; part <= pass; ++part) {
        const int place = part * Form::kPart + warp_key, key = rows.begin + place;
#pragma unroll 1
        for (int row = 0; row < kRows; row += Form::kStep) {
          const Span upper = facts.spans[row], lower = facts.spans[row + Form::kStep - 1];
          if (key >= lower.end || key + 16 <= upper.begin) continue;
          const auto keep = [&](int n, const std::uint32_t(&words)[4]) {
#pragma unroll
            for (int i = 0; i < 4; ++i) {  // rows g and g + 8 of n-tile n, then of n + 1
              shared.ds.word(place + lane / 4 + i % 2 * 8, row / 8 + n + i / 2, lane % 4) = words[i];
            }
          };
          add_rows<Form::kStep>(sums, operands(shared.k, shared.v, place, q, dout, row), facts, row, key,
                                lower.begin <= key && key + 16 <= upper.end, sizes.scale * kLog2e, keep,
                                Form::kPasses == 1 || part == pass);
        }
      }
      __syncthreads();
      load_facts(t + 1);
      if (!dq_here) continue;
      constexpr int kRowWarps = kRows / 16, kTiles = kDim / 8 * kRowWarps / Form::kWarps;
      const int row = warp % kRowWarps * 16, column = warp / kRowWarps * kTiles;
      const Span upper = facts.spans[row], lower = facts.spans[row + 15];
      float dq[kTiles][4] = {};
#pragma unroll 1
      for (int at = 0; at < Form::kKeys; at += 16) {
        if (rows.begin + at >= lower.end || rows.begin + at + 16 <= upper.begin) continue;
        std::uint32_t ds[4];
        ptx::load_matrices_transposed(ds, fragment_at(across(shared.ds, at), row / 8));
        const std::uint32_t k = fragment_at(along(shared.k, at), column);
#pragma unroll
        for (int n = 0; n < kTiles; n += 2) {
          std::uint32_t b[4];
          ptx::load_matrices_transposed(b, fragment_at(k, n));
          multiply(dq[n], dq[n + 1], ds, b);
        }
      }
      const auto to = [&](int r) {
        const int at = t * kRows + row + r;
        return at < rows.count() ? rows.of(a.dq, at, kDim) + column * 8 : nullptr;
      };
      store_rows(to(lane / 4), to(lane / 4 + 8), dq, sizes.scale, sizes.scale);
    }
    store_short_keys(a, sums, rows.begin + pass * Form::kPart + warp_key, rows.end, kv_head, split);
  }
}

template <class Form>
__global__ void __launch_bounds__(Form::kThreads, 1) attention_short_backward_kernel(Backward a) {
  UNFURL_DYNAMIC_SHARED(ShortShared<Form>, shared);
  const Sizes& sizes = a.sizes;
  const Documents& documents = sizes.documents;
  const int block = static_cast<int>(blockIdx.x), split = block % a.splits;
  const int kv_head = block / a.splits % sizes.kv_heads, window = block / a.splits / sizes.kv_heads * Form::kWindow;
  const int first_head = split * sizes.group / a.splits, heads = (split + 1) * sizes.group / a.splits - first_head;
  const int covered = documents.covered(), limit = min(window + Form::kWindow, covered);
  const std::int32_t* starts = documents.cu_seqlens;
  if (window >= covered) return;
  int document = window == 0 ? 0 : find_document(documents, window - 1) + 1;
  while (document < documents.count && starts[document] < limit) {
    const int first = document, begin = starts[first];
    int end = begin;
    while (document < documents.count && starts[document] < limit && starts[document + 1] - begin <= Form::kKeys &&
           (Form::kBeyond == 0 || starts[document + 1] - starts[document] > Form::kBeyond)) {
      end = starts[++document];
    }
    if (end == begin) {  // a document of another form, or empty ones before it
      ++document;
      continue;
    }
    short_gradients<Form>(shared, a, {begin, end, kv_head * sizes.group + first_head, heads}, kv_head, first, split);
    if (Form::kOne) return;
  }
}

}  // namespace
}  // namespace unfurl::kernels
