#include "tests/kernels/ptx_conformance.h"

#include "kernels/device/hopper.h"
#include "kernels/device/reduce.h"
#include "kernels/device/vector.h"
#include "kernels/philox.h"

namespace unfurl::tests {
namespace {

using namespace kernels::device;
using kernels::DeviceQueue;
using kernels::TileMap;

__global__ void shuffles_kernel(std::uint32_t* out, const std::uint32_t* in) {
  const int t = static_cast<int>(threadIdx.x);
  const std::uint32_t value = in[t];
  out[t] = ptx::shuffle_xor(value, 5);
  out[64 + t] = ptx::shuffle(value, 7);
  out[128 + t] = ptx::shuffle_up(value, 3);
  out[192 + t] = ptx::shuffle_down(value, 9);
  out[256 + t] = ptx::ballot(value % 2 == 1);
  out[320 + t] = __float_as_uint(warp_sum(static_cast<float>(value % 1000)));
  const std::uint64_t wide = ptx::shuffle_xor(std::uint64_t{~value} << 32 | value, 5);
  out[384 + t] = static_cast<std::uint32_t>(wide);
  out[448 + t] = static_cast<std::uint32_t>(wide >> 32);
}

__global__ void arithmetic_kernel(float* ex2, std::uint32_t* packed, float* rounded, std::uint32_t* random,
                                  const float* in, int count) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i >= count) return;
  ex2[i] = ptx::ex2(in[i]);
  packed[i] = ptx::pack_bf16(in[i], -in[i]);
  rounded[i] = to_float(to_bf16(in[i]));
  const auto numbers = philox({42, 7, 9}, static_cast<std::uint64_t>(i));
  for (int k = 0; k < 4; ++k) random[4 * i + k] = numbers[static_cast<std::size_t>(k)];
}

struct Pieces {
  std::uint32_t words[17][4];
};

__global__ void copies_kernel(std::uint32_t* out, const std::uint32_t* in) {
  UNFURL_DYNAMIC_SHARED(Pieces, pieces);
  const int t = static_cast<int>(threadIdx.x);
  if (t == 0) {
    for (int i = 0; i < 17; ++i) {
      ptx::copy_async16(ptx::shared_address(pieces.words[i]), in + 4 * i,
                        static_cast<std::uint32_t>(i > 0 ? i - 1 : 16));
      if (i % 4 == 3) ptx::commit_copies();
    }
    ptx::commit_copies();
    ptx::wait_copies<4>();
    for (int i = 0; i < 4; ++i) out[i] = pieces.words[0][i];
    ptx::wait_copies<0>();
  }
  __syncthreads();
  for (int i = t; i < 17 * 4; i += static_cast<int>(blockDim.x)) {
    if (i >= 4) out[i] = pieces.words[i / 4][i % 4];
  }
}

struct Matrix64x8 {
  std::uint16_t rows[64][8];
};

__global__ void matrices_kernel(std::uint32_t* out, const std::uint16_t* in, const std::int32_t* rows) {
  UNFURL_DYNAMIC_SHARED(Matrix64x8, matrix);
  const int t = static_cast<int>(threadIdx.x);
  for (int i = t; i < 64 * 8; i += 32) matrix.rows[i / 8][i % 8] = in[i];
  __syncwarp();
  std::uint32_t plain[4], transposed[4];
  ptx::load_matrices(plain, ptx::shared_address(matrix.rows[rows[t]]));
  ptx::load_matrices_transposed(transposed, ptx::shared_address(matrix.rows[rows[t]]));
  for (int i = 0; i < 4; ++i) {
    out[4 * t + i] = plain[i];
    out[128 + 4 * t + i] = transposed[i];
  }
}

UNFURL_DEVICE std::uint32_t pair(bf16 low, bf16 high) {
  return std::uint32_t{low.bits} | static_cast<std::uint32_t>(high.bits) << 16;
}

__global__ void mma_kernel(float* d, const bf16* a, const bf16* b) {
  const int g = static_cast<int>(threadIdx.x) / 4, q = static_cast<int>(threadIdx.x) % 4;
  a += blockIdx.x * 256;
  b += blockIdx.x * 128;
  d += blockIdx.x * 128;
  std::uint32_t fragment[4];
  for (int i = 0; i < 4; ++i) {
    const bf16* at = a + (g + i % 2 * 8) * 16 + 2 * q + i / 2 * 8;
    fragment[i] = pair(at[0], at[1]);
  }
  const std::uint32_t b0 = pair(b[2 * q * 8 + g], b[(2 * q + 1) * 8 + g]);
  const std::uint32_t b1 = pair(b[(2 * q + 8) * 8 + g], b[(2 * q + 9) * 8 + g]);
  float* const at[4] = {d + g * 8 + 2 * q, d + g * 8 + 2 * q + 1, d + (g + 8) * 8 + 2 * q, d + (g + 8) * 8 + 2 * q + 1};
  float sum[4] = {*at[0], *at[1], *at[2], *at[3]};
  ptx::mma_m16n8k16(sum, fragment, b0, b1);
  for (int i = 0; i < 4; ++i) *at[i] = sum[i];
}

__global__ void reductions_kernel(float* out, const float* in) {
  UNFURL_SHARED(BlockScratch, scratch, [1]);
  out[threadIdx.x] = block_sum(in[threadIdx.x], scratch[0]);
  out[blockDim.x + threadIdx.x] = block_max(in[threadIdx.x], scratch[0]);
}

struct Tile {
  alignas(1024) bf16 elements[64][64];
};
struct OneTile {
  Tile tile;
  alignas(8) std::uint64_t barrier;
};

__global__ void tile_kernel(bf16* out, const __grid_constant__ TileMap map, int row, int column) {
  UNFURL_DYNAMIC_SHARED(OneTile, shared);
  const int t = static_cast<int>(threadIdx.x);
  const std::uint32_t barrier = ptx::shared_address(&shared.barrier);
  if (t == 0) {
    ptx::barrier_init(barrier, 1);
    ptx::fence_barriers();
    ptx::barrier_arrive_expect(barrier, sizeof(Tile));
    ptx::load_tile(ptx::shared_address(&shared.tile), map, row, column, barrier);
  }
  __syncthreads();
  ptx::barrier_wait(barrier, 0);
  for (int i = t; i < 64 * 64; i += static_cast<int>(blockDim.x)) {
    const int r = i / 64, c = i % 64;
    out[i] = shared.tile.elements[r][(c / 8 ^ r % 8) * 8 + c % 8];
  }
}

constexpr int kStages = 3, kConsumers = 128;

template <int kColumns>
struct Stages {
  Tile a[kStages];
  Tile b[kStages][kColumns / 64];
  alignas(8) std::uint64_t full[kStages];
  std::uint64_t empty[kStages];
};

template <int kColumns>
__global__ void __launch_bounds__(kConsumers + 128, 1)
    products_kernel(float* out, const __grid_constant__ TileMap a, const __grid_constant__ TileMap b, int depth) {
  static_assert(sizeof(Stages<kColumns>) <= 227 * 1024);
  UNFURL_DYNAMIC_SHARED(Stages<kColumns>, shared);
  const int t = static_cast<int>(threadIdx.x), tiles = depth / 64;
  if (t == 0) {
    for (int s = 0; s < kStages; ++s) {
      ptx::barrier_init(ptx::shared_address(&shared.full[s]), 1);
      ptx::barrier_init(ptx::shared_address(&shared.empty[s]), kConsumers / 32);
    }
    ptx::fence_barriers();
  }
  __syncthreads();
  if (t >= kConsumers) {
    ptx::give_registers<24>();
    if (t == kConsumers) {
      for (int i = 0; i < tiles; ++i) {
        const int s = i % kStages;
        const std::uint32_t full = ptx::shared_address(&shared.full[s]);
        ptx::barrier_wait(ptx::shared_address(&shared.empty[s]), static_cast<std::uint32_t>(i / kStages + 1) & 1);
        ptx::barrier_arrive_expect(full, static_cast<std::uint32_t>(sizeof(Tile)) * (1 + kColumns / 64));
        ptx::load_tile(ptx::shared_address(&shared.a[s]), a, 0, 64 * i, full);
        for (int n = 0; n < kColumns / 64; ++n) {
          ptx::load_tile(ptx::shared_address(&shared.b[s][n]), b, 64 * n, 64 * i, full);
        }
      }
    }
  } else {
    ptx::take_registers<240>();
    float sum[kColumns / 2];
    for (int i = 0; i < tiles; ++i) {
      const int s = i % kStages;
      ptx::barrier_wait(ptx::shared_address(&shared.full[s]), static_cast<std::uint32_t>(i / kStages) & 1);
      for (int j = t; j < kColumns * 64; j += kConsumers) {
        bf16& element = shared.b[s][j / 4096].elements[j / 64 % 64][j % 64];
        element.bits = static_cast<std::uint16_t>(element.bits ^ 0x8000);
      }
      ptx::fence_shared_for_async();
      ptx::named_barrier_sync(1, kConsumers);
      ptx::products_fence();
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        const std::uint64_t left =
            ptx::product_operand(ptx::shared_address(&shared.a[s]) + 32 * static_cast<unsigned>(k));
        const std::uint64_t right =
            ptx::product_operand(ptx::shared_address(&shared.b[s][0]) + 32 * static_cast<unsigned>(k));
        if constexpr (kColumns == 64) {
          ptx::product_m64n64k16(sum, left, right, i > 0 || k > 0);
        } else {
          ptx::product_m64n128k16(sum, left, right, i > 0 || k > 0);
        }
      }
      ptx::products_commit();
      ptx::products_wait<0>();
      if (t % 32 == 0) ptx::barrier_arrive(ptx::shared_address(&shared.empty[s]));
    }
    ptx::named_barrier_sync(1, kConsumers);
    const int lane = t % 32;
#pragma unroll
    for (int i = 0; i < kColumns / 2; ++i) {
      const int row = t / 32 * 16 + lane / 4 + i / 2 % 2 * 8, column = i / 4 * 8 + lane % 4 * 2 + i % 2;
      out[row * kColumns + column] = -sum[i];
    }
  }
}

template <int kColumns>
void launch_products(const DeviceQueue& queue, float* d, const bf16* a, const bf16* b, int depth) {
  launch(queue, products_kernel<kColumns>, dim3(1), dim3(kConsumers + 128), sizeof(Stages<kColumns>), d,
         make_tile_map(queue, a, 64, depth, depth, 64), make_tile_map(queue, b, kColumns, depth, depth, 64), depth);
}

}  // namespace

template <class Queue>
void run_shuffles(const Queue& queue, std::uint32_t* out, const std::uint32_t* in) {
  launch(queue, shuffles_kernel, dim3(1), dim3(64), 0, out, in);
}

template <class Queue>
void run_arithmetic(const Queue& queue, float* ex2, std::uint32_t* packed, float* rounded, std::uint32_t* random,
                    const float* in, int count) {
  launch(queue, arithmetic_kernel, dim3(static_cast<unsigned>(count + 127) / 128), dim3(128), 0, ex2, packed, rounded,
         random, in, count);
}

template <class Queue>
void run_copies(const Queue& queue, std::uint32_t* out, const std::uint32_t* in) {
  launch(queue, copies_kernel, dim3(1), dim3(32), sizeof(Pieces), out, in);
}

template <class Queue>
void run_matrices(const Queue& queue, std::uint32_t* out, const std::uint16_t* in, const std::int32_t* rows) {
  launch(queue, matrices_kernel, dim3(1), dim3(32), sizeof(Matrix64x8), out, in, rows);
}

template <class Queue>
void run_mma(const Queue& queue, float* d, const bf16* a, const bf16* b, int count) {
  launch(queue, mma_kernel, dim3(static_cast<unsigned>(count)), dim3(32), 0, d, a, b);
}

template <class Queue>
void run_reductions(const Queue& queue, float* out, const float* in, int threads) {
  launch(queue, reductions_kernel, dim3(1), dim3(static_cast<unsigned>(threads)), 0, out, in);
}

template <class Queue>
void run_tile(const Queue& queue, bf16* out, const TileMap& map, int row, int column) {
  launch(queue, tile_kernel, dim3(1), dim3(64), sizeof(OneTile), out, map, row, column);
}

template <class Queue>
void run_products(const Queue& queue, float* d, const bf16* a, const bf16* b, int columns, int depth) {
  if (columns == 64) {
    launch_products<64>(queue, d, a, b, depth);
  } else {
    launch_products<128>(queue, d, a, b, depth);
  }
}

template void run_shuffles(const DeviceQueue&, std::uint32_t*, const std::uint32_t*);
template void run_arithmetic(const DeviceQueue&, float*, std::uint32_t*, float*, std::uint32_t*, const float*, int);
template void run_copies(const DeviceQueue&, std::uint32_t*, const std::uint32_t*);
template void run_matrices(const DeviceQueue&, std::uint32_t*, const std::uint16_t*, const std::int32_t*);
template void run_mma(const DeviceQueue&, float*, const bf16*, const bf16*, int);
template void run_reductions(const DeviceQueue&, float*, const float*, int);
template void run_tile(const DeviceQueue&, bf16*, const TileMap&, int, int);
template void run_products(const DeviceQueue&, float*, const bf16*, const bf16*, int, int);

}  // namespace unfurl::tests
