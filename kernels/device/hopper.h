// Instructions of Hopper (sm_90a), one function each as in ptx.h: mbarriers, tile copies by the tensor memory
// accelerator, warpgroup matrix products, named barriers, register budgets. On other devices they trap: launch kernels
// that use them only where DeviceProperties::major is 9. On the host they run. No kernel of this project uses them yet:
// attention takes mma.sync everywhere. tests/kernels/ptx_conformance.cu does, and the engine's tests.
//
// Tiles lie in shared memory in rows of 128 bytes (64 bf16) with 128-byte swizzle, from a multiple of 1024 bytes on:
// the 16-byte piece p of row r is at 128 r + 16 (p ^ (r mod 8)).
#pragma once
#include "kernels/device/ptx.h"
#include "kernels/device/tile_map.h"
#if !defined(__CUDACC__)
#include "kernels/host/hopper.h"
#endif

#if defined(__CUDACC__)
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define UNFURL_HOPPER(...) asm volatile(__VA_ARGS__)
#else
#define UNFURL_HOPPER(...) __trap()
#endif
#endif

namespace unfurl::kernels::device::inline UNFURL_BACKEND::ptx {

// ---- mbarriers: 8 bytes of shared memory, 8-byte aligned. Phase 0 is the first; a phase ends when all its arrivals
// and all bytes that it expects have come. A thread waits for the end of the phase of a parity, 0 at first.

/// One thread initialises; then fence_barriers() and a barrier of the block make it known to all.
UNFURL_DEVICE void barrier_init(std::uint32_t barrier, std::uint32_t arrivals, [[maybe_unused]] CallSite site = {}) {
#if defined(__CUDACC__)
  UNFURL_HOPPER("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
#else
  host::barrier_init(barrier, arrivals, site);
#endif
}

UNFURL_DEVICE void fence_barriers() {
#if defined(__CUDACC__)
  UNFURL_HOPPER("fence.mbarrier_init.release.cluster;" ::: "memory");
#endif
}

UNFURL_DEVICE void barrier_arrive(std::uint32_t barrier, [[maybe_unused]] CallSite site = {}) {
#if defined(__CUDACC__)
  UNFURL_HOPPER("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
#else
  host::barrier_arrive(barrier, 0, site);
#endif
}

/// Arrives, and lets the phase wait for `bytes` bytes of copies.
UNFURL_DEVICE void barrier_arrive_expect(std::uint32_t barrier, std::uint32_t bytes,
                                         [[maybe_unused]] CallSite site = {}) {
#if defined(__CUDACC__)
  UNFURL_HOPPER("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
#else
  host::barrier_arrive(barrier, bytes, site);
#endif
}

UNFURL_DEVICE void barrier_wait(std::uint32_t barrier, std::uint32_t parity, [[maybe_unused]] CallSite site = {}) {
#if defined(__CUDACC__)
  std::uint32_t done = 0;
  while (done == 0) {
    UNFURL_HOPPER("{ .reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }"
                  : "=r"(done)
                  : "r"(barrier), "r"(parity)
                  : "memory");
  }
#else
  host::barrier_wait(barrier, parity, site);
#endif
}

// ---- Tile copies.

/// The tile whose first element is (row, column) of the matrix of `map`, a `const __grid_constant__ TileMap` parameter
/// of the kernel. Elements outside of the matrix become zeros; the barrier gets all of the tile's bytes. One thread
/// calls.
UNFURL_DEVICE void load_tile(std::uint32_t to, const TileMap& map, int row, int column, std::uint32_t barrier,
                             [[maybe_unused]] CallSite site = {}) {
#if defined(__CUDACC__)
  UNFURL_HOPPER(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4}], [%2];" ::
          "r"(to),
      "l"(reinterpret_cast<std::uint64_t>(&map)), "r"(barrier), "r"(column), "r"(row)
      : "memory");
#else
  host::load_tile(to, map, row, column, barrier, site);
#endif
}

/// Between this thread's ordinary writes to shared memory and reads of them by tile copies or products, which follow
/// after a barrier.
UNFURL_DEVICE void fence_shared_for_async() {
#if defined(__CUDACC__)
  UNFURL_HOPPER("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}

// ---- Barriers 1 to 15 of the block, for some of its warps.

/// Waits until `threads` threads have come, a multiple of 32.
UNFURL_DEVICE void named_barrier_sync(unsigned barrier, unsigned threads, [[maybe_unused]] CallSite site = {}) {
#if defined(__CUDACC__)
  asm volatile("bar.sync %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
#else
  host::barrier(barrier, threads, site);
#endif
}

// ---- Registers. All warps of a warpgroup call; the kernel has a register cap (__launch_bounds__(threads, 1)).

template <int kRegisters>
UNFURL_DEVICE void take_registers() {
  static_assert(kRegisters % 8 == 0 && kRegisters >= 24 && kRegisters <= 256);
#if defined(__CUDACC__)
  UNFURL_HOPPER("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
#endif
}

template <int kRegisters>
UNFURL_DEVICE void give_registers() {
  static_assert(kRegisters % 8 == 0 && kRegisters >= 24 && kRegisters <= 256);
#if defined(__CUDACC__)
  UNFURL_HOPPER("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
#endif
}

// ---- Products of a warpgroup (four warps, the first a multiple of four). Warp w has the rows 16 w to 16 w + 15 of the
// sum d; its lane 4 g + q has of d[4 j + i] the row g + 8 (i / 2) and the column 8 j + 2 q + i mod 2. Between
// products_fence() and products_wait() the sums are the hardware's.

/// Names the tile at shared address `tile`, plus 32 bytes for each 16 columns, as an operand.
UNFURL_DEVICE std::uint64_t product_operand(std::uint32_t tile) {
  constexpr std::uint64_t kRowGroupBytes = 1024, kSwizzle128 = 1;
  return static_cast<std::uint64_t>((tile & 0x3ffffu) >> 4) | std::uint64_t{1} << 16 | kRowGroupBytes >> 4 << 32 |
         kSwizzle128 << 62;
}

/// Before the first product, and after registers of sums were written otherwise.
UNFURL_DEVICE void products_fence() {
#if defined(__CUDACC__)
  UNFURL_HOPPER("wgmma.fence.sync.aligned;" ::: "memory");
#endif
}

/// The products since the last commit are a group.
UNFURL_DEVICE void products_commit([[maybe_unused]] CallSite site = {}) {
#if defined(__CUDACC__)
  UNFURL_HOPPER("wgmma.commit_group.sync.aligned;" ::: "memory");
#else
  host::products_commit(site);
#endif
}

/// Waits for all groups but the kPending last ones.
template <int kPending>
UNFURL_DEVICE void products_wait([[maybe_unused]] CallSite site = {}) {
#if defined(__CUDACC__)
  UNFURL_HOPPER("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
#else
  host::products_wait(kPending);
#endif
}

#define UNFURL_8(d, i)                                                                                        \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]), \
      "+f"(d[i + 7])

/// d (+)= A B^T with A [64, 16] and B [64, 16] of bf16 in shared memory, d [64, 64]; `add` false: d is overwritten.
UNFURL_DEVICE void product_m64n64k16(float (&d)[32], std::uint64_t a, std::uint64_t b, bool add,
                                     [[maybe_unused]] CallSite site = {}) {
#if defined(__CUDACC__)
  UNFURL_HOPPER(
      "{ .reg .pred p; setp.ne.b32 p, %34, 0; wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
      "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, "
      "%24, %25, %26, %27, %28, %29, %30, %31}, %32, %33, p, 1, 1, 0, 0; }"
      : UNFURL_8(d, 0), UNFURL_8(d, 8), UNFURL_8(d, 16), UNFURL_8(d, 24)
      : "l"(a), "l"(b), "r"(static_cast<int>(add)));
#else
  host::product(d, 64, a, b, add, site);
#endif
}

/// The same with B [128, 16] and d [64, 128].
UNFURL_DEVICE void product_m64n128k16(float (&d)[64], std::uint64_t a, std::uint64_t b, bool add,
                                      [[maybe_unused]] CallSite site = {}) {
#if defined(__CUDACC__)
  UNFURL_HOPPER(
      "{ .reg .pred p; setp.ne.b32 p, %66, 0; wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 "
      "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, "
      "%24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, "
      "%46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, %64, %65, p, 1, 1, "
      "0, "
      "0; }"
      : UNFURL_8(d, 0), UNFURL_8(d, 8), UNFURL_8(d, 16), UNFURL_8(d, 24), UNFURL_8(d, 32), UNFURL_8(d, 40),
        UNFURL_8(d, 48), UNFURL_8(d, 56)
      : "l"(a), "l"(b), "r"(static_cast<int>(add)));
#else
  host::product(d, 128, a, b, add, site);
#endif
}

#undef UNFURL_8

}  // namespace unfurl::kernels::device::inline UNFURL_BACKEND::ptx

#if defined(__CUDACC__)
#undef UNFURL_HOPPER
#endif
