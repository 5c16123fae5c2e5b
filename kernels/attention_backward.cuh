// What the backward kernels of attention on tensor cores share: dK and dV of 16 keys a warp, from tiles of 64 rows.
#pragma once
#include "kernels/attention.cuh"

namespace unfurl::kernels {
namespace {

constexpr int kTileRows = 64, kTileKeys = 64, kStep = 32;

struct Backward {
  Matrix<bf16> dq, dk, dv;
  Matrix<const bf16> dout, out;
  const float* lse;
  float* delta;  // as lse: the sum of dout * out
  Matrix<const bf16> q, k, v;
  Sizes sizes;
  // Short documents: their query heads are divided among so many blocks, which leave [splits, dk or dv, tokens,
  // kv_heads * head_dim] to be summed where they are several.
  int splits;
  float* partials;
};

/// What the gradients of a tile of rows need beside the rows.
struct RowFacts {
  Span spans[kTileRows];
  float lse[kTileRows];  // in units of log 2
  float delta[kTileRows];
};

/// The gradients of a warp's 16 keys.
template <int kDim>
struct KeyGradients {
  float dk[kDim / 8][4], dv[kDim / 8][4];
};

/// Where a warp finds its operands: its 16 keys, and some rows of q and dout.
struct KeyOperands {
  std::uint32_t k, v;  // along
  std::uint32_t q_across, q_along, dout_across, dout_along;
};

/// Adds what the kRows (16 or 32) rows from `row` of the tile on give to the keys [key, key + 16), whether `whole`: all
/// of them see all keys, or masked. The gradients of their scores (by rows g and g + 8 of dS^T, as operands) go to
/// keep(n, words) for each pair of n-tiles, that is 16 rows. Where not `summed`, those are all that is made.
template <int kRows, int kDim, class Keep>
UNFURL_DEVICE void add_rows(KeyGradients<kDim>& sums, const KeyOperands& at, const RowFacts& facts, int row, int key,
                            bool whole, float scale, const Keep& keep, bool summed = true) {
  constexpr int kTiles = kRows / 8;
  constexpr std::uint32_t kBytes = 16 * kDim * sizeof(bf16);  // of 16 rows
  float s[kTiles][4], dp[kTiles][4];
#pragma unroll
  for (int n = 0; n < kTiles; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) s[n][i] = dp[n][i] = 0;
  }
#pragma unroll
  for (int d = 0; d < kDim / 16; ++d) {
    std::uint32_t k[4], v[4];
    ptx::load_matrices(k, fragment_at(at.k, 2 * d));
    ptx::load_matrices(v, fragment_at(at.v, 2 * d));
#pragma unroll
    for (int n = 0; n < kTiles; n += 2) {
      std::uint32_t b[4];
      ptx::load_matrices(b, fragment_at(at.q_across, 2 * d) + n / 2 * kBytes);
      multiply(s[n], s[n + 1], k, b);
      ptx::load_matrices(b, fragment_at(at.dout_across, 2 * d) + n / 2 * kBytes);
      multiply(dp[n], dp[n + 1], v, b);
    }
  }
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int n = 0; n < kTiles; ++n) {
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      const int r = row + n * 8 + lane % 4 * 2 + j;
      const Span span = facts.spans[r];
      const float lse = facts.lse[r], delta = facts.delta[r];
#pragma unroll
      for (int i = j; i < 4; i += 2) {
        const bool seen = whole || span.has(key + lane / 4 + i / 2 * 8);
        s[n][i] = seen ? ptx::ex2(s[n][i] * scale - lse) : 0.0f;
        dp[n][i] = s[n][i] * (dp[n][i] - delta);
      }
    }
  }
#pragma unroll
  for (int n = 0; n < kTiles; n += 2) {
    std::uint32_t p[4], ds[4];
    as_operand(p, s[n], s[n + 1]);
    as_operand(ds, dp[n], dp[n + 1]);
    keep(n, ds);
    if (!summed) continue;
#pragma unroll
    for (int t = 0; t < kDim / 8; t += 2) {
      std::uint32_t b[4];
      ptx::load_matrices_transposed(b, fragment_at(at.dout_along, t) + n / 2 * kBytes);
      multiply(sums.dv[t], sums.dv[t + 1], p, b);
      ptx::load_matrices_transposed(b, fragment_at(at.q_along, t) + n / 2 * kBytes);
      multiply(sums.dk[t], sums.dk[t + 1], ds, b);
    }
  }
}

/// The operands of a warp: rows from `row` on and keys [key, key + 16) of the tiles.
template <int kDim, int kKeys, int kRows>
UNFURL_DEVICE KeyOperands operands(const Tile<kKeys, kDim>& k, const Tile<kKeys, kDim>& v, int key,
                                   const Tile<kRows, kDim>& q, const Tile<kRows, kDim>& dout, int row) {
  return {along(k, key), along(v, key), across(q, row), along(q, row), across(dout, row), along(dout, row)};
}

/// The sum of the products of two pairs of bf16.
UNFURL_DEVICE float dot_pair(std::uint32_t a, std::uint32_t b) {
  return __uint_as_float(a << 16) * __uint_as_float(b << 16) +
         __uint_as_float(a & 0xffff0000u) * __uint_as_float(b & 0xffff0000u);
}

}  // namespace
}  // namespace unfurl::kernels
