// What the tensor memory accelerator must know about a matrix to copy tiles of it. Made on the host, passed to kernels
// by value as `const __grid_constant__ TileMap`.
#pragma once
#include <cstdint>

#include "kernels/device/runtime.h"

namespace unfurl::kernels {

/// CUDA's CUtensorMap, or the fields themselves where kernels run on the host.
struct alignas(128) TileMap {
  std::uint64_t words[16];
};

/// Columns of a tile: the 128 bytes that the swizzle permutes.
inline constexpr int kTileColumns = 64;

/// A matrix [rows, cols] of bf16, its rows `stride` elements apart, cut into tiles [tile_rows, kTileColumns] with
/// 128-byte swizzle, of up to 256 rows. Throws where the hardware could not do it: `data` must be 16-byte aligned and
/// `stride` a multiple of 8.
TileMap make_tile_map(const CudaQueue& queue, const bf16* data, Index rows, Index cols, Index stride, int tile_rows);
TileMap make_tile_map(const HostCudaQueue& queue, const bf16* data, Index rows, Index cols, Index stride,
                      int tile_rows);

namespace host {

struct TileMapFields {
  const unsigned char* data;
  std::int64_t rows, cols, stride_bytes;
  std::int32_t tile_rows;
};

}  // namespace host

/// The checks of make_tile_map().
void check_tile_map(const bf16* data, Index rows, Index cols, Index stride, int tile_rows);

}  // namespace unfurl::kernels
