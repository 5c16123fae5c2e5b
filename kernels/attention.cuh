// What the attention kernels share: which keys a query sees, tiles of bf16 in shared memory without bank conflicts, and
// the fragments that the tensor cores take from them.
//
// A query row is a pair (token, head of the group that shares a key-value head), numbered token * group + head, so a
// tile of rows has several heads of few tokens (multi-query) or one head of many tokens (multi-head), and K and V are
// read once for all of them. Documents lie one after the other, so tiles take no notice of them: row r sees the tokens
// [begin(r), end(r)), and neither end ever falls as r grows. A tile of rows needs the keys from its first row's begin
// to its last row's end, a tile of keys the rows from the first that sees its first key to the end of its last
// document.
#pragma once
#include "kernels/attention.h"
#include "kernels/device/reduce.h"
#include "kernels/device/vector.h"

namespace unfurl::kernels {
namespace {

constexpr float kLog2e = 1.4426950408889634f, kLn2 = 0.6931471805599453f;

/// The documents of a batch, in device memory.
struct Documents {
  const std::int32_t* cu_seqlens;
  const std::int32_t* prefix_lengths;
  int count;
  int ignored = 0;  // documents of at most so many tokens are another kernel's

  UNFURL_DEVICE int covered() const { return cu_seqlens[count]; }
};

/// The sizes of an attention, as kernels use them.
struct Sizes {
  Documents documents;
  int tokens, kv_heads, group, head_dim;
  float scale;  // of the scores

  UNFURL_DEVICE int rows() const { return tokens * group; }
};

inline Sizes sizes_of(const AttentionShape& shape, const std::int32_t* cu_seqlens, const std::int32_t* prefix_lengths) {
  return {{cu_seqlens, prefix_lengths, static_cast<int>(shape.documents)},
          static_cast<int>(shape.tokens),
          static_cast<int>(shape.kv_heads),
          static_cast<int>(shape.heads / shape.kv_heads),
          static_cast<int>(shape.head_dim),
          static_cast<float>(shape.scale)};
}

/// Tokens [begin, end).
struct alignas(8) Span {
  int begin, end;
  UNFURL_DEVICE bool empty() const { return begin == end; }
  UNFURL_DEVICE bool has(int token) const { return begin <= token && token < end; }
};

/// The document of a token < covered(), by a whole warp: the last d with cu_seqlens[d] <= token.
UNFURL_DEVICE int find_document(const Documents& documents, int token) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  int first = 0, count = documents.count;
  while (count > 1) {
    const int step = (count + 31) / 32, at = lane * step;
    const bool before = at < count && documents.cu_seqlens[first + at] <= token;
    const int last = max(__popc(ptx::ballot(before)) - 1, 0) * step;
    first += last;
    count = min(step, count - last);
  }
  return first;
}

/// The keys that a token sees; an empty span where its document is ignored, or at the end of all documents where it
/// belongs to none. `document` is a document at or before the token's, and becomes the token's.
UNFURL_DEVICE Span find_span(const Documents& documents, int& document, int token, int covered) {
  if (token >= covered) return {covered, covered};
  while (documents.cu_seqlens[document + 1] <= token) ++document;
  const int begin = documents.cu_seqlens[document], end = documents.cu_seqlens[document + 1];
  if (end - begin <= documents.ignored) return {begin, begin};
  return {begin, max(token + 1, min(begin + documents.prefix_lengths[document], end))};
}

/// The first token that sees a token of a document; the last is the document's.
UNFURL_DEVICE int find_seer(const Documents& documents, int document, int token) {
  const int begin = documents.cu_seqlens[document];
  return token - begin < documents.prefix_lengths[document] ? begin : token;
}

/// kRows rows of kDim bf16, in pieces of 16 bytes; piece p of row r lies in place p ^ (r % 8), so that the same piece
/// of eight rows, which ldmatrix reads at once, lies in eight different groups of banks. Rows of four pieces lie in
/// pairs, as one row of eight.
template <int kRows, int kDim>
struct alignas(kDim < 64 ? 128 : kDim * 2) Tile {
  static constexpr int kPieces = kDim / 8;
  static_assert(kPieces == 4 || kPieces % 8 == 0);
  uint4 pieces[kRows * kPieces];

  UNFURL_DEVICE static int place(int row, int piece) {
    if constexpr (kPieces == 4) return row / 2 * 8 + ((row % 2 * 4 + piece) ^ (row / 2 % 8));
    return row * kPieces + (piece ^ (row % 8));
  }
  UNFURL_DEVICE static std::uint32_t offset(int row, int piece) {
    return static_cast<std::uint32_t>(place(row, piece) * 16);
  }
  UNFURL_DEVICE const uint4& at(int row, int piece) const { return pieces[place(row, piece)]; }
  /// Two neighbouring elements.
  UNFURL_DEVICE std::uint32_t& word(int row, int piece, int pair) {
    return reinterpret_cast<std::uint32_t*>(&pieces[place(row, piece)])[pair];
  }
};

/// Copies rows [0, kRows) into a tile, asynchronously; address(row) is null for rows that are zeros.
template <int kThreads, int kRows, int kDim, class Address>
UNFURL_DEVICE void copy_tile(Tile<kRows, kDim>& tile, const void* somewhere, const Address& address) {
  constexpr int kPieces = kDim / 8, kStep = kThreads / kPieces;
  static_assert(kThreads % kPieces == 0 && kRows % kStep == 0);
  const int thread = static_cast<int>(threadIdx.x), piece = thread % kPieces;
  const std::uint32_t to = ptx::shared_address(&tile);
#pragma unroll 2
  for (int r = 0; r < kRows; r += kStep) {
    const int row = r + thread / kPieces;
    const bf16* from = address(row);
    ptx::copy_async16(to + tile.offset(row, piece), from != nullptr ? from + piece * 8 : somewhere,
                      from != nullptr ? 16 : 0);
  }
}

/// Where a lane reads the fragments of rows [row, row + 16) of a tile; those of pieces {piece, piece + 1}, piece even,
/// lie at fragment_at(start, piece).
template <int kRows, int kDim>
UNFURL_DEVICE std::uint32_t along(const Tile<kRows, kDim>& tile, int row) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  return ptx::shared_address(&tile) + tile.offset(row + lane % 16, lane / 16);
}
/// The same rows, with the middle two of the four matrices exchanged.
template <int kRows, int kDim>
UNFURL_DEVICE std::uint32_t across(const Tile<kRows, kDim>& tile, int row) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  return ptx::shared_address(&tile) + tile.offset(row + lane % 8 + lane / 16 * 8, lane / 8 % 2);
}
// A tile starts at a multiple of 128 bytes (256 where rows are so long), so adding a piece to a place is an exclusive
// or.
UNFURL_DEVICE std::uint32_t fragment_at(std::uint32_t start, int piece) {
  return start ^ static_cast<std::uint32_t>(piece * 16);
}

// What load_matrices() gives: along() A of the product tile * x; across() B of x * tile^T, for two neighbouring
// n-tiles, {0, 1} and {2, 3}. Transposed: along() B of x * tile, for two neighbouring n-tiles; across() A of tile^T *
// x.

/// d += A B for two neighbouring n-tiles.
UNFURL_DEVICE void multiply(float (&left)[4], float (&right)[4], const std::uint32_t (&a)[4],
                            const std::uint32_t (&b)[4], CallSite site = {}) {
  ptx::mma_m16n8k16(left, a, b[0], b[1], site);
  ptx::mma_m16n8k16(right, a, b[2], b[3], site);
}

/// Two neighbouring n-tiles of a product as A of the next one.
UNFURL_DEVICE void as_operand(std::uint32_t (&a)[4], const float (&left)[4], const float (&right)[4]) {
  a[0] = ptx::pack_bf16(left[0], left[1]);
  a[1] = ptx::pack_bf16(left[2], left[3]);
  a[2] = ptx::pack_bf16(right[0], right[1]);
  a[3] = ptx::pack_bf16(right[2], right[3]);
}

/// Over the four lanes that share a row of a product.
UNFURL_DEVICE float quad_sum(float value) {
  value += ptx::shuffle_xor(value, 1);
  return value + ptx::shuffle_xor(value, 2);
}
UNFURL_DEVICE float quad_max(float value) {
  value = fmaxf(value, ptx::shuffle_xor(value, 1));
  return fmaxf(value, ptx::shuffle_xor(value, 2));
}

/// Lane q of each four brings word q' of n-tiles 0 to 3, and gets the four words of n-tile q: 16 bytes side by side.
UNFURL_DEVICE void transpose_quad(std::uint32_t (&words)[4]) {
  const int q = static_cast<int>(threadIdx.x) % 4;
  const bool odd = q % 2 != 0, upper = q / 2 != 0;
  const std::uint32_t a = ptx::shuffle_xor(odd ? words[0] : words[1], 1);
  const std::uint32_t b = ptx::shuffle_xor(odd ? words[2] : words[3], 1);
  const std::uint32_t pairs[4] = {odd ? a : words[0], odd ? words[1] : a, odd ? b : words[2], odd ? words[3] : b};
  const std::uint32_t c = ptx::shuffle_xor(upper ? pairs[0] : pairs[2], 2);
  const std::uint32_t d = ptx::shuffle_xor(upper ? pairs[1] : pairs[3], 2);
  words[0] = upper ? c : pairs[0];
  words[1] = upper ? d : pairs[1];
  words[2] = upper ? pairs[2] : c;
  words[3] = upper ? pairs[3] : d;
}

/// Writes a product of a warp, 16 rows of two n-tiles, times a factor for the rows g and g + 8; a null row is left out.
UNFURL_DEVICE void store_rows(bf16* upper_row, bf16* lower_row, const float (&product)[2][4], float upper_factor,
                              float lower_factor) {
  const int q = static_cast<int>(threadIdx.x) % 4;
  const bool odd = q % 2 != 0;
  const auto store = [&](bf16* row, int i, float factor) {
    const std::uint32_t left = ptx::pack_bf16(product[0][i] * factor, product[0][i + 1] * factor);
    const std::uint32_t right = ptx::pack_bf16(product[1][i] * factor, product[1][i + 1] * factor);
    // Even lanes get two neighbouring words of the left n-tile, odd ones of the right.
    const std::uint32_t other = ptx::shuffle_xor(odd ? left : right, 1);
    if (row == nullptr) return;
    *reinterpret_cast<uint2*>(row + q % 2 * 8 + q / 2 * 4) = odd ? make_uint2(other, right) : make_uint2(left, other);
  };
  store(upper_row, 0, upper_factor);
  store(lower_row, 2, lower_factor);
}

/// The same of kTiles n-tiles.
template <int kTiles>
UNFURL_DEVICE void store_rows(bf16* upper_row, bf16* lower_row, const float (&product)[kTiles][4], float upper_factor,
                              float lower_factor) {
  static_assert(kTiles % 4 == 0);
  const int q = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
  for (int t = 0; t < kTiles; t += 4) {
    std::uint32_t upper[4], lower[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      upper[i] = ptx::pack_bf16(product[t + i][0] * upper_factor, product[t + i][1] * upper_factor);
      lower[i] = ptx::pack_bf16(product[t + i][2] * lower_factor, product[t + i][3] * lower_factor);
    }
    transpose_quad(upper);
    transpose_quad(lower);
    const int column = (t + q) * 8;
    if (upper_row != nullptr) {
      store_vector(upper_row + column, Vector<bf16>{make_uint4(upper[0], upper[1], upper[2], upper[3])});
    }
    if (lower_row != nullptr) {
      store_vector(lower_row + column, Vector<bf16>{make_uint4(lower[0], lower[1], lower[2], lower[3])});
    }
  }
}

/// Where row `row` of key-value head `kv_head` starts in q, out and their gradients, for heads of `dim`.
template <class T>
UNFURL_DEVICE T* row_of(const Matrix<T>& matrix, const Sizes& sizes, int kv_head, int row, int dim) {
  const int token = row / sizes.group, head = row - token * sizes.group;
  return matrix.row(token) + (kv_head * sizes.group + head) * dim;
}

/// Its place in lse, [heads, tokens].
UNFURL_DEVICE Index place_of(const Sizes& sizes, int kv_head, int row) {
  const int token = row / sizes.group, head = row - token * sizes.group;
  return Index{kv_head * sizes.group + head} * sizes.tokens + token;
}

}  // namespace
}  // namespace unfurl::kernels
