// What the attention kernels do with tiles of at most kTileRows query rows and kTileKeys keys: packing, small products,
// softmax over rows. Internal to them; each operation runs in the calling thread.
//
// Packed rows are padded with zeros to a multiple of kTilePad elements, so that they are whole vectors for every
// instruction set and no operation but packing and unpacking knows an odd width.
#pragma once
#include <algorithm>
#include <array>

#include "kernels/queue.h"

namespace unfurl::kernels {

constexpr Index kTilePad = 16, kTileKeys = 64, kTileRows = 60;

constexpr Index padded(Index width) { return (width + kTilePad - 1) / kTilePad * kTilePad; }

/// Rows in two levels, as (token, head): row r starts at data + (r / inner) * outer_stride + (r % inner) *
/// inner_stride.
template <class T>
struct TileRows {
  T* data;
  Index outer_stride;
  Index inner = 1;
  Index inner_stride = 0;
};

/// c[m,n] = (accumulate ? c : 0) + a[m,k] * b[k,n], with a[i,l] at a + i * a_row + l * a_step. n is a multiple of
/// kTilePad. The three limits say what a mask makes superfluous; each is null or does not decrease over the rows.
template <class T>
struct TileProduct {
  T* c;
  Index c_stride;
  const T* a;
  Index a_row, a_step;
  const T* b;
  Index b_stride;
  Index m, n, k;
  bool accumulate = false;
  const Index* columns = nullptr;  // of row i only columns [0, columns[i]) are asked for
  const Index* begin = nullptr;    // a[i,l] is 0 for l < begin[i]
  const Index* end = nullptr;      // a[i,l] is 0 for l >= end[i]
};

/// One instruction set's operations.
template <class T>
struct TileOps {
  /// to[r,:] = factor * from[r,:], padded; `to` is [rows, padded(cols)].
  void (*pack)(T* to, TileRows<const T> from, Index rows, Index cols, T factor);
  /// to[c,r] = from[r,c]; `to` is [cols, kTileKeys], of which padded(rows) columns are written. rows <= kTileKeys.
  void (*pack_transposed)(T* to, const T* from, Index stride, Index rows, Index cols);
  /// to[r,:] = factors[r] * from[r,:]; `from` is [rows, padded(cols)].
  void (*unpack)(TileRows<T> to, const T* from, Index rows, Index cols, const T* factors);
  /// dots[r] = sum_c a[r,c] * b[r,c]; `a` is [rows, padded(cols)].
  void (*dots)(T* dots, const T* a, TileRows<const T> b, Index rows, Index cols);
  void (*product)(const TileProduct<T>& product);
  /// One step of online softmax. Of scores ([rows, kTileKeys]) row r sees columns [0, columns[r]); they become
  /// exp(score - maximum[r]) and the others, up to padded(width), 0. Updates maximum and sum; where the maximum grew,
  /// scales out ([rows, out_width]) to it. The first step starts them and needs columns[r] > 0.
  void (*softmax)(T* scores, Index rows, Index width, const Index* columns, T* maximum, T* sum, T* out, Index out_width,
                  bool first);
  /// scores become p = exp(score - lse[r]), and gradients (of p) become those of the scores, p * (gradient - delta[r]);
  /// both 0 where the row does not see the column, up to padded(width).
  void (*softmax_gradient)(T* scores, T* gradients, Index rows, Index width, const Index* columns, const T* lse,
                           const T* delta);
};

/// Of this machine's best instruction set; for float and double.
template <class T>
const TileOps<T>& tile_ops();

/// Arrays of `counts` elements in the thread's scratch memory, each 64-byte aligned.
template <class T, std::size_t N>
std::array<T*, N> tile_scratch(const std::array<Index, N>& counts) {
  constexpr Index kLine = 64 / sizeof(T);
  std::array<T*, N> out;
  Index total = 0;
  for (const Index count : counts) total += (count + kLine - 1) / kLine * kLine;
  T* at = static_cast<T*>(thread_scratch(static_cast<std::size_t>(total) * sizeof(T)));
  for (std::size_t i = 0; i < N; ++i) {
    out[i] = at;
    at += (counts[i] + kLine - 1) / kLine * kLine;
  }
  return out;
}

/// How many keys of the tile that starts at key `first` are seen by a row that sees keys [0, limit).
inline Index seen(Index limit, Index first) { return std::clamp<Index>(limit - first, 0, kTileKeys); }

}  // namespace unfurl::kernels
