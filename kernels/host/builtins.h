// What nvcc gives every kernel, for the host compiler: types, qualifiers, index variables, intrinsics. Kernels include
// kernels/device/device.h, which includes this one where nvcc does not compile.
#pragma once
#include <math.h>

#include <atomic>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "kernels/host/engine.h"
#if defined(__has_feature)
#if __has_feature(memory_sanitizer)
#include <sanitizer/msan_interface.h>
#endif
#endif

// NOLINTBEGIN(bugprone-reserved-identifier): the names are CUDA's

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__
#define __shared__ static_assert(false, "write UNFURL_SHARED instead of __shared__")
#define threadIdx (::unfurl::kernels::host::current_thread->index)
#define blockIdx (::unfurl::kernels::host::current_thread->block->index)
#define blockDim (::unfurl::kernels::host::current_thread->block->size)
#define gridDim (::unfurl::kernels::host::current_thread->block->grid)

namespace unfurl::kernels::device::inline host_executed {

using dim3 = host::Extent;
using uint3 = host::Position;

struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(8) int2 {
  int x, y;
};
struct alignas(16) int4 {
  int x, y, z, w;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline int2 make_int2(int x, int y) { return {x, y}; }
inline int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

constexpr int warpSize = 32;

/// MemorySanitizer does not look at operands of atomics, nor at what goes into the engine, by itself.
template <class T>
void check_initialised([[maybe_unused]] const T& value) {
#if defined(__has_feature)
#if __has_feature(memory_sanitizer)
  __msan_check_mem_is_initialized(&value, sizeof value);
#endif
#endif
}
inline bool decided(int predicate) {
  check_initialised(predicate);
  return predicate != 0;
}

inline void __syncthreads(host::CallSite site = {}) { host::barrier(0, 0, site); }
inline int __syncthreads_count(int predicate, host::CallSite site = {}) {
  return host::barrier_vote(host::Vote::count, decided(predicate), site);
}
inline int __syncthreads_and(int predicate, host::CallSite site = {}) {
  return host::barrier_vote(host::Vote::all, decided(predicate), site);
}
inline int __syncthreads_or(int predicate, host::CallSite site = {}) {
  return host::barrier_vote(host::Vote::any, decided(predicate), site);
}

inline constexpr host::Collective kSyncWarp{"__syncwarp", nullptr, true};
inline void __syncwarp(unsigned mask = 0xffffffffu, host::CallSite site = {}) {
  host::collective(kSyncWarp, mask, nullptr, nullptr, site);
}

template <class T>
T shuffled(host::Shuffle kind, unsigned mask, T value, int argument, int width, host::CallSite site) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= 8);
  std::uint64_t bits = 0, shuffled_bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  host::shuffle(kind, mask, bits, shuffled_bits, argument, width, site);
  std::memcpy(&value, &shuffled_bits, sizeof value);
  return value;
}
template <class T>
T __shfl_sync(unsigned mask, T value, int lane, int width = 32, host::CallSite site = {}) {
  return shuffled(host::Shuffle::index, mask, value, lane, width, site);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, host::CallSite site = {}) {
  return shuffled(host::Shuffle::up, mask, value, static_cast<int>(delta), width, site);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, host::CallSite site = {}) {
  return shuffled(host::Shuffle::down, mask, value, static_cast<int>(delta), width, site);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = 32, host::CallSite site = {}) {
  return shuffled(host::Shuffle::exclusive_or, mask, value, lane_mask, width, site);
}
inline unsigned __ballot_sync(unsigned mask, int predicate, host::CallSite site = {}) {
  return host::ballot(host::Ballot::ballot, mask, decided(predicate), site);
}
inline int __any_sync(unsigned mask, int predicate, host::CallSite site = {}) {
  return host::ballot(host::Ballot::any, mask, decided(predicate), site) != 0;
}
inline int __all_sync(unsigned mask, int predicate, host::CallSite site = {}) {
  return host::ballot(host::Ballot::all, mask, !decided(predicate), site) == 0;
}

template <class T>
std::atomic_ref<T> atomic_at(T* address) {
  check_initialised(*address);
  return std::atomic_ref<T>(*address);
}
template <class T>
T atomicAdd(T* address, std::type_identity_t<T> value) {
  return atomic_at(address).fetch_add(value, std::memory_order_relaxed);
}
template <class T>
T atomicExch(T* address, std::type_identity_t<T> value) {
  return atomic_at(address).exchange(value, std::memory_order_relaxed);
}
template <class T>
T atomicCAS(T* address, std::type_identity_t<T> expected, std::type_identity_t<T> value) {
  atomic_at(address).compare_exchange_strong(expected, value, std::memory_order_relaxed);
  return expected;
}
template <class T>
T atomicMax(T* address, std::type_identity_t<T> value) {
  std::atomic_ref<T> at = atomic_at(address);
  T old = at.load(std::memory_order_relaxed);
  while (old < value && !at.compare_exchange_weak(old, value, std::memory_order_relaxed)) {
  }
  return old;
}
template <class T>
T atomicMin(T* address, std::type_identity_t<T> value) {
  std::atomic_ref<T> at = atomic_at(address);
  T old = at.load(std::memory_order_relaxed);
  while (value < old && !at.compare_exchange_weak(old, value, std::memory_order_relaxed)) {
  }
  return old;
}
template <class T>
T atomicOr(T* address, std::type_identity_t<T> value) {
  return atomic_at(address).fetch_or(value, std::memory_order_relaxed);
}
inline void __threadfence() { std::atomic_thread_fence(std::memory_order_seq_cst); }
inline void __threadfence_block() { std::atomic_thread_fence(std::memory_order_seq_cst); }

template <class T>
T __ldg(const T* address) {
  return *address;
}
template <class T>
T __ldcs(const T* address) {
  return *address;
}
template <class T>
void __stcs(T* address, T value) {
  *address = value;
}

inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline float __expf(float x) { return std::exp(x); }
inline float __logf(float x) { return std::log(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __saturatef(float x) { return x > 0.0f ? (x < 1.0f ? x : 1.0f) : 0.0f; }
inline int __float_as_int(float x) { return std::bit_cast<int>(x); }
inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
inline float __int_as_float(int x) { return std::bit_cast<float>(x); }
inline float __uint_as_float(unsigned x) { return std::bit_cast<float>(x); }
inline int __popc(unsigned x) { return std::popcount(x); }
inline int __ffs(int x) { return x == 0 ? 0 : std::countr_zero(static_cast<unsigned>(x)) + 1; }
inline int __clz(int x) { return std::countl_zero(static_cast<unsigned>(x)); }

// As in CUDA: arguments of two types are converted, and a NaN gives way to a number.
template <class A, class B>
constexpr std::common_type_t<A, B> min(A a, B b) {
  using T = std::common_type_t<A, B>;
  if constexpr (std::is_floating_point_v<T>) return std::fmin(static_cast<T>(a), static_cast<T>(b));
  return static_cast<T>(b) < static_cast<T>(a) ? static_cast<T>(b) : static_cast<T>(a);
}
template <class A, class B>
constexpr std::common_type_t<A, B> max(A a, B b) {
  using T = std::common_type_t<A, B>;
  if constexpr (std::is_floating_point_v<T>) return std::fmax(static_cast<T>(a), static_cast<T>(b));
  return static_cast<T>(a) < static_cast<T>(b) ? static_cast<T>(b) : static_cast<T>(a);
}

[[noreturn]] inline void __trap() { host::fault("__trap()"); }

}  // namespace unfurl::kernels::device::inline host_executed

// NOLINTEND(bugprone-reserved-identifier)
