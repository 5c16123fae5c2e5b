#include "kernels/device/tile_map.h"

#include <cstring>
#include <stdexcept>
#include <string>

namespace unfurl::kernels {

void check_tile_map(const bf16* data, Index rows, Index cols, Index stride, int tile_rows) {
  const auto refuse = [](const std::string& why) { throw std::runtime_error("cuda: tile map: " + why); };
  if (reinterpret_cast<std::uintptr_t>(data) % 16 != 0) refuse("the matrix is not 16-byte aligned");
  if (stride % 8 != 0 || stride < cols) {
    refuse("the stride " + std::to_string(stride) + " is no multiple of 8, or less than the width");
  }
  constexpr Index kMost = Index{1} << 31;
  if (rows < 1 || cols < 1 || rows > kMost || cols > kMost) {
    refuse("a matrix of " + std::to_string(rows) + " x " + std::to_string(cols));
  }
  if (tile_rows < 1 || tile_rows > 256) refuse("tiles of " + std::to_string(tile_rows) + " rows");
}

#if defined(UNFURL_HOST_CUDA)
TileMap make_tile_map(const HostCudaQueue&, const bf16* data, Index rows, Index cols, Index stride, int tile_rows) {
  check_tile_map(data, rows, cols, stride, tile_rows);
  const host::TileMapFields fields{reinterpret_cast<const unsigned char*>(data), rows, cols, stride * 2, tile_rows};
  TileMap map{};
  static_assert(sizeof fields <= sizeof map.words);
  std::memcpy(map.words, &fields, sizeof fields);
  return map;
}
#endif

}  // namespace unfurl::kernels
