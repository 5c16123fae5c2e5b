// The bugs of planted_bugs.cu in the use of Hopper's instructions.
#pragma once
#include "kernels/device/hopper.h"

namespace unfurl::kernels {
namespace {

constexpr int kThreads = 256;

struct Tile {
  alignas(1024) bf16 elements[64][64];
  alignas(8) std::uint64_t barrier;
};

UNFURL_DEVICE std::uint32_t ready_barrier(Tile& tile) {
  const std::uint32_t barrier = ptx::shared_address(&tile.barrier);
  if (threadIdx.x == 0) {
    ptx::barrier_init(barrier, 1);
    ptx::fence_barriers();
  }
  __syncthreads();
  return barrier;
}

/// The input as a matrix of bf16, 8 x 64.
TileMap map_of(const float* in) {
  return make_tile_map(HostCudaQueue(), reinterpret_cast<const bf16*>(in), 8, 64, 64, 8);
}
constexpr std::uint32_t kTileBytes = 8 * 64 * sizeof(bf16);

__global__ void mbarrier_not_initialised(float* out, const float* in) {
  UNFURL_DYNAMIC_SHARED(Tile, tile);
  ptx::barrier_wait(ptx::shared_address(&tile.barrier), 0);
  out[threadIdx.x] = in[threadIdx.x];
}

__global__ void mbarrier_overwritten(float* out, const float* in) {
  UNFURL_DYNAMIC_SHARED(Tile, tile);
  const std::uint32_t barrier = ready_barrier(tile);
  if (threadIdx.x == 9) tile.barrier = 0;
  __syncthreads();
  if (threadIdx.x == 0) ptx::barrier_arrive(barrier);
  out[threadIdx.x] = in[threadIdx.x];
}

__global__ void too_many_arrivals(float* out, const float* in) {
  UNFURL_DYNAMIC_SHARED(Tile, tile);
  const std::uint32_t barrier = ready_barrier(tile);
  if (threadIdx.x < 2) ptx::barrier_arrive_expect(barrier, kTileBytes / 2);
  out[threadIdx.x] = in[threadIdx.x];
}

__global__ void expects_too_many_bytes(float* out, const float* in) {
  UNFURL_DYNAMIC_SHARED(Tile, tile);
  const std::uint32_t barrier = ready_barrier(tile);
  if (threadIdx.x == 0) {
    ptx::barrier_arrive_expect(barrier, kTileBytes + 16);
    ptx::load_tile(ptx::shared_address(&tile), map_of(in), 0, 0, barrier);
  }
  ptx::barrier_wait(barrier, 0);
  out[threadIdx.x] = in[threadIdx.x];
}

__global__ void tile_read_before_the_wait(float* out, const float* in) {
  UNFURL_DYNAMIC_SHARED(Tile, tile);
  const std::uint32_t barrier = ready_barrier(tile);
  if (threadIdx.x == 0) {
    ptx::barrier_arrive_expect(barrier, kTileBytes);
    ptx::load_tile(ptx::shared_address(&tile), map_of(in), 0, 0, barrier);
  }
  const auto* first_row = reinterpret_cast<const float*>(tile.elements[0]);
  out[threadIdx.x] = threadIdx.x < 32 ? first_row[threadIdx.x] : in[threadIdx.x];
  ptx::barrier_wait(barrier, 0);
}

__global__ void tile_never_waited_for(float* out, const float* in) {
  UNFURL_DYNAMIC_SHARED(Tile, tile);
  const std::uint32_t barrier = ready_barrier(tile);
  if (threadIdx.x == 0) {
    ptx::barrier_arrive_expect(barrier, kTileBytes);
    ptx::load_tile(ptx::shared_address(&tile), map_of(in), 0, 0, barrier);
  }
  out[threadIdx.x] = in[threadIdx.x];
}

UNFURL_DEVICE void multiply_ones(float (&sum)[32], Tile& tile) {
  for (int i = static_cast<int>(threadIdx.x); i < 64 * 64; i += kThreads) tile.elements[i / 64][i % 64] = to_bf16(1);
  ptx::fence_shared_for_async();
  __syncthreads();
  ptx::products_fence();
  const std::uint64_t operand = ptx::product_operand(ptx::shared_address(&tile));
  ptx::product_m64n64k16(sum, operand, operand, false);
  ptx::products_commit();
}

__global__ void product_read_before_the_wait(float* out, const float* in) {
  UNFURL_DYNAMIC_SHARED(Tile, tile);
  float sum[32];
  multiply_ones(sum, tile);
  out[threadIdx.x] = in[threadIdx.x] + sum[3] - 16;
  ptx::products_wait<0>();
}

// The operand is overwritten while the product may still read it.
__global__ void product_operand_overwritten(float* out, const float* in) {
  UNFURL_DYNAMIC_SHARED(Tile, tile);
  float sum[32];
  multiply_ones(sum, tile);
  tile.elements[threadIdx.x / 4][0] = to_bf16(2);
  ptx::products_wait<0>();
  out[threadIdx.x] = in[threadIdx.x] + sum[3] - 16;
}

__global__ void named_barrier_for_too_many(float* out, const float* in) {
  if (threadIdx.x < 128) ptx::named_barrier_sync(1, 160);
  out[threadIdx.x] = in[threadIdx.x];
}

}  // namespace
}  // namespace unfurl::kernels
