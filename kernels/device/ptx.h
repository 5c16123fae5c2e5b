// One function an instruction: under nvcc one asm statement or intrinsic, on the host one call into the engine. With
// hopper.h the only place of asm. tests/kernels/ptx_conformance compares the two on a GPU.
//
// Shared memory is addressed by 32-bit shared_address()es. Fragments are laid out as the PTX manual says: for
// mma.m16n8k16, lane = 4 g + q holds of A the elements (g, 2q), (g+8, 2q), (g, 2q+8), (g+8, 2q+8) and each one's right
// neighbour; of B (2q, g), (2q+8, g) and the one below each; of C and D (g, 2q), (g, 2q+1), (g+8, 2q), (g+8, 2q+1).
#pragma once
#include "kernels/device/device.h"
#if !defined(__CUDACC__)
#include "kernels/host/copies.h"
#include "kernels/host/tensor_core.h"
#endif

namespace unfurl::kernels::device::inline UNFURL_BACKEND::ptx {

inline constexpr unsigned kAllLanes = 0xffffffffu;

UNFURL_DEVICE std::uint32_t shared_address(const void* pointer, [[maybe_unused]] CallSite site = {}) {
#if defined(__CUDACC__)
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(pointer));
#else
  return host::shared_address(pointer, site);
#endif
}

UNFURL_DEVICE void sync_threads([[maybe_unused]] CallSite site = {}) {
#if defined(__CUDACC__)
  __syncthreads();
#else
  __syncthreads(site);
#endif
}

/// The value of the lane whose number differs from this one's in the bits of lane_mask.
template <class T>
UNFURL_DEVICE T shuffle_xor(T value, int lane_mask, unsigned mask = kAllLanes, [[maybe_unused]] CallSite site = {}) {
#if defined(__CUDACC__)
  return __shfl_xor_sync(mask, value, lane_mask);
#else
  return __shfl_xor_sync(mask, value, lane_mask, 32, site);
#endif
}

/// The value of `lane`.
template <class T>
UNFURL_DEVICE T shuffle(T value, int lane, unsigned mask = kAllLanes, [[maybe_unused]] CallSite site = {}) {
#if defined(__CUDACC__)
  return __shfl_sync(mask, value, lane);
#else
  return __shfl_sync(mask, value, lane, 32, site);
#endif
}

/// The value of the lane `delta` before; the first `delta` lanes keep theirs.
template <class T>
UNFURL_DEVICE T shuffle_up(T value, unsigned delta, unsigned mask = kAllLanes, [[maybe_unused]] CallSite site = {}) {
#if defined(__CUDACC__)
  return __shfl_up_sync(mask, value, delta);
#else
  return __shfl_up_sync(mask, value, delta, 32, site);
#endif
}

/// The value of the lane `delta` after; the last `delta` lanes keep theirs.
template <class T>
UNFURL_DEVICE T shuffle_down(T value, unsigned delta, unsigned mask = kAllLanes, [[maybe_unused]] CallSite site = {}) {
#if defined(__CUDACC__)
  return __shfl_down_sync(mask, value, delta);
#else
  return __shfl_down_sync(mask, value, delta, 32, site);
#endif
}

/// The lanes for which the predicate holds, a bit each.
UNFURL_DEVICE unsigned ballot(bool predicate, unsigned mask = kAllLanes, [[maybe_unused]] CallSite site = {}) {
#if defined(__CUDACC__)
  return __ballot_sync(mask, predicate);
#else
  return __ballot_sync(mask, predicate, site);
#endif
}

/// 2^x, within two units in the last place; denormals are zero.
UNFURL_DEVICE float ex2(float x) {
#if defined(__CUDACC__)
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#else
  return std::exp2(x);
#endif
}

/// Two floats rounded to bf16, `low` in the low half.
UNFURL_DEVICE std::uint32_t pack_bf16(float low, float high) {
#if defined(__CUDACC__)
  std::uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
#else
  return std::uint32_t{to_bf16(low).bits} | std::uint32_t{to_bf16(high).bits} << 16;
#endif
}

/// cp.async: 16 bytes from global to shared memory, of which `bytes` (0 to 16) are read and the rest are zeros. They
/// have landed for this thread after commit_copies() and wait_copies(), for others after a barrier on top.
UNFURL_DEVICE void copy_async16(std::uint32_t to, const void* from, std::uint32_t bytes = 16,
                                [[maybe_unused]] CallSite site = {}) {
#if defined(__CUDACC__)
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes) : "memory");
#else
  host::async_copy(to, from, bytes, site);
#endif
}

/// The copies since the last commit are a group.
UNFURL_DEVICE void commit_copies([[maybe_unused]] CallSite site = {}) {
#if defined(__CUDACC__)
  asm volatile("cp.async.commit_group;" ::: "memory");
#else
  host::commit_copies(site);
#endif
}

/// Waits for all groups of this thread but the kPending last ones.
template <int kPending>
UNFURL_DEVICE void wait_copies() {
#if defined(__CUDACC__)
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
#else
  host::wait_copies(kPending);
#endif
}

/// Four 8x8 matrices of 16-bit elements: lane 8 m + i gives the address of row i of matrix m (16 bytes, aligned); lane
/// 4 i + j gets the elements (i, 2j) and (i, 2j+1) of matrix m in fragment[m].
UNFURL_DEVICE void load_matrices(std::uint32_t (&fragment)[4], std::uint32_t row, [[maybe_unused]] CallSite site = {}) {
#if defined(__CUDACC__)
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(fragment[0]), "=r"(fragment[1]), "=r"(fragment[2]), "=r"(fragment[3])
               : "r"(row)
               : "memory");
#else
  host::load_matrices(fragment, row, false, site);
#endif
}

/// The same, each matrix transposed: lane 4 i + j gets the elements (2j, i) and (2j+1, i).
UNFURL_DEVICE void load_matrices_transposed(std::uint32_t (&fragment)[4], std::uint32_t row,
                                            [[maybe_unused]] CallSite site = {}) {
#if defined(__CUDACC__)
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(fragment[0]), "=r"(fragment[1]), "=r"(fragment[2]), "=r"(fragment[3])
               : "r"(row)
               : "memory");
#else
  host::load_matrices(fragment, row, true, site);
#endif
}

/// d += A B with A 16x16 and B 16x8 of bf16, d 16x8 of float.
UNFURL_DEVICE void mma_m16n8k16(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1,
                                [[maybe_unused]] CallSite site = {}) {
#if defined(__CUDACC__)
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
  const std::uint32_t b[2] = {b0, b1};
  host::mma_m16n8k16(d, a, b, site);
#endif
}

}  // namespace unfurl::kernels::device::inline UNFURL_BACKEND::ptx
