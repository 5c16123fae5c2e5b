// Every wrapper of kernels/device/ on given inputs, for both GPU backends: tests/kernels/ptx_conformance_test.cpp
// compares with plain loops, and on a GPU with the CPU that executes the same source. All pointers are the queue's
// device's.
#pragma once
#include "kernels/device/tile_map.h"
#include "kernels/types.h"

namespace unfurl::tests {

/// Of two warps. out [8, 64]: xor 5, lane 7, up 3, down 9, ballot of the lowest bit, the warp's sum (as float bits);
/// low and high word of xor 5 of the 64 bits (value, ~value).
template <class Queue>
void run_shuffles(const Queue& queue, std::uint32_t* out, const std::uint32_t* in);

/// For count values: 2^x; x and -x in one word of bf16; x rounded and widened again; four numbers of Philox.
template <class Queue>
void run_arithmetic(const Queue& queue, float* ex2, std::uint32_t* packed, float* rounded, std::uint32_t* random,
                    const float* in, int count);

/// cp.async of 17 pieces of 16 bytes, of which piece i reads i bytes, in groups of 4 waited for one by one. out, in:
/// [17, 4].
template <class Queue>
void run_copies(const Queue& queue, std::uint32_t* out, const std::uint32_t* in);

/// ldmatrix of rows of the [64, 8] matrix `in`: lane l gives row rows[l]. out [2, 32, 4]: plain, transposed.
template <class Queue>
void run_matrices(const Queue& queue, std::uint32_t* out, const std::uint16_t* in, const std::int32_t* rows);

/// d += a b for count products, with fragments gathered as ptx.h documents them. a [count, 16, 16], b [count, 16, 8],
/// d [count, 16, 8].
template <class Queue>
void run_mma(const Queue& queue, float* d, const bf16* a, const bf16* b, int count);

/// Sum and maximum over blocks of 32 to 1024 threads. out [2, threads], in [threads].
template <class Queue>
void run_reductions(const Queue& queue, float* out, const float* in, int threads);

/// Hopper: the tile at (row, column), unswizzled, out [64, 64].
template <class Queue>
void run_tile(const Queue& queue, bf16* out, const kernels::TileMap& map, int row, int column);

/// Hopper: d [64, columns] = a b^T with a [64, depth] and b [columns, depth], columns 64 or 128, depth a multiple of
/// 64: a producer warp copies tiles, a warpgroup multiplies. b's tiles are negated in shared memory, and so is d.
template <class Queue>
void run_products(const Queue& queue, float* d, const bf16* a, const bf16* b, int columns, int depth);

}  // namespace unfurl::tests
