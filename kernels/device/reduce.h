// Sums and maxima over the lanes of a warp and the threads of a block. Every thread gets the result, and the order of
// the terms is fixed, so the bits are.
#pragma once
#include "kernels/device/ptx.h"

namespace unfurl::kernels::device::inline UNFURL_BACKEND {

UNFURL_DEVICE float warp_sum(float value, CallSite site = {}) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) {
    value += ptx::shuffle_xor(value, distance, ptx::kAllLanes, site);
  }
  return value;
}

UNFURL_DEVICE float warp_max(float value, CallSite site = {}) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) {
    value = fmaxf(value, ptx::shuffle_xor(value, distance, ptx::kAllLanes, site));
  }
  return value;
}

UNFURL_DEVICE double warp_sum(double value, CallSite site = {}) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) {
    value += ptx::shuffle_xor(value, distance, ptx::kAllLanes, site);
  }
  return value;
}

/// Shared memory for the reductions of a block of at most 1024 threads, whole warps.
struct BlockScratch {
  float warps[32];
};

namespace detail {

/// No barrier at the end: the scratch may be written again only after another one.
template <bool kMax>
UNFURL_DEVICE float block_reduce(float value, BlockScratch& scratch, CallSite site) {
  const int warps = static_cast<int>(blockDim.x) / 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  value = kMax ? warp_max(value, site) : warp_sum(value, site);
  if (warps == 1) return value;
  if (lane == 0) scratch.warps[warp] = value;
  ptx::sync_threads(site);
  value = lane < warps ? scratch.warps[lane] : kMax ? -INFINITY : 0.0f;
  return kMax ? warp_max(value, site) : warp_sum(value, site);
}

}  // namespace detail

/// Over a one-dimensional block of whole warps. The scratch is free again when the call returns.
UNFURL_DEVICE float block_sum(float value, BlockScratch& scratch, CallSite site = {}) {
  const float sum = detail::block_reduce<false>(value, scratch, site);
  ptx::sync_threads(site);
  return sum;
}

UNFURL_DEVICE float block_max(float value, BlockScratch& scratch, CallSite site = {}) {
  const float most = detail::block_reduce<true>(value, scratch, site);
  ptx::sync_threads(site);
  return most;
}

/// As block_sum, with one barrier instead of two: the caller uses the scratch again only after another barrier, for
/// instance two scratches in turn.
UNFURL_DEVICE float block_sum_once(float value, BlockScratch& scratch, CallSite site = {}) {
  return detail::block_reduce<false>(value, scratch, site);
}

/// In double; the same rules.
struct DoubleScratch {
  double warps[32];
};
UNFURL_DEVICE double block_sum_once(double value, DoubleScratch& scratch, CallSite site = {}) {
  const int warps = static_cast<int>(blockDim.x) / 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  value = warp_sum(value, site);
  if (lane == 0) scratch.warps[warp] = value;
  ptx::sync_threads(site);
  return warp_sum(lane < warps ? scratch.warps[lane] : 0.0, site);
}

UNFURL_DEVICE float block_max_once(float value, BlockScratch& scratch, CallSite site = {}) {
  return detail::block_reduce<true>(value, scratch, site);
}

}  // namespace unfurl::kernels::device::inline UNFURL_BACKEND
