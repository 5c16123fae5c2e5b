// The one header that every CUDA kernel includes. nvcc compiles a .cu for the GPU; the host compiler compiles the same
// source as C++ for the engine in kernels/host/, without any CUDA header. What differs is hidden here.
//
// A .cu defines its kernels in an anonymous namespace within unfurl::kernels, starts them with launch(), and
// instantiates its contracts for DeviceQueue. Rules: no <<<>>>, no bare __shared__, no asm (kernels/device/ptx.h), no
// standard containers; bf16 is storage, arithmetic is float; collectives stand in warp-uniform flow with a full mask;
// no return before a later barrier; __syncwarp where lockstep would be assumed; no float atomics. Functions that are
// constexpr (to_float, philox, Matrix::row, ...) work in kernels.
#pragma once
#include <cstddef>
#include <cstdint>

#include "kernels/device/runtime.h"
#include "kernels/device/shared_limits.h"
#include "kernels/types.h"

#if defined(__CUDACC__)
#define UNFURL_BACKEND cuda
#else
#include <tuple>

#include "kernels/host/builtins.h"

#define UNFURL_BACKEND host_executed
#endif

/// A function of kernels.
#define UNFURL_DEVICE __device__ __forceinline__
/// Static shared memory: UNFURL_SHARED(float, sums, [32]); declares `float sums[32]`.
/// Dynamic shared memory is a struct of typed arrays: UNFURL_DYNAMIC_SHARED(Tiles, tiles); declares `Tiles& tiles`; the
/// launch gives sizeof(Tiles) bytes, 1024-byte aligned.
#if defined(__CUDACC__)
#define UNFURL_SHARED(type, name, dimensions) __shared__ type name dimensions
#define UNFURL_DYNAMIC_SHARED(type, name)                                  \
  extern __shared__ __align__(1024) unsigned char unfurl_dynamic_shared[]; \
  type& name = *reinterpret_cast<type*>(unfurl_dynamic_shared)
#else
#define UNFURL_SHARED(type, name, dimensions)                                                          \
  using name##_shared_type = type dimensions;                                                          \
  name##_shared_type& name = *static_cast<name##_shared_type*>(::unfurl::kernels::host::static_shared( \
      [] {                                                                                             \
        static char tag;                                                                               \
        return &tag;                                                                                   \
      }(),                                                                                             \
      sizeof(name##_shared_type), alignof(name##_shared_type), #name, ::unfurl::kernels::host::CallSite()))
#define UNFURL_DYNAMIC_SHARED(type, name) \
  type& name =                            \
      *static_cast<type*>(::unfurl::kernels::host::dynamic_shared(sizeof(type), ::unfurl::kernels::host::CallSite()))
#endif

namespace unfurl::kernels {

#if defined(__CUDACC__)
using DeviceQueue = CudaQueue;

/// Throws "cuda: launch at rms_norm.cu:17: invalid argument".
[[noreturn]] void throw_launch_error(int error, const char* file, int line);
#else
using DeviceQueue = HostCudaQueue;
#endif

namespace device::inline UNFURL_BACKEND {

/// Last parameter of device functions that synchronise, `CallSite site = {}`: reports name the line that calls them.
#if defined(__CUDACC__)
struct CallSite {};
#else
using host::CallSite;
#endif

/// The queue of a launch, and where the launch stands in the source.
struct LaunchOn {
  const DeviceQueue& queue;
  const char* file;
  int line;

  LaunchOn(const DeviceQueue& on, const char* at = __builtin_FILE(), int in = __builtin_LINE())
      : queue(on), file(at), line(in) {}
};

#if defined(__CUDACC__)
inline void check_launch(cudaError_t error, const LaunchOn& on) {
  if (error != cudaSuccess) throw_launch_error(static_cast<int>(error), on.file, on.line);
}
#endif

/// Queues kernel(arguments...) over grid x block threads with `shared_bytes` of dynamic shared memory; an empty grid
/// is no work. What the kernel gets are copies of the arguments.
template <class... Parameters, class... Arguments>
void launch(const LaunchOn& on, void (*kernel)(Parameters...), dim3 grid, dim3 block, std::size_t shared_bytes,
            Arguments&&... arguments) {
  static_assert(sizeof...(Parameters) == sizeof...(Arguments), "one argument for each parameter of the kernel");
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
#if defined(__CUDACC__)
  if (shared_bytes > kDynamicWithoutOptIn) {
    check_launch(
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_bytes)), on);
  }
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = static_cast<cudaStream_t>(on.queue.stream());
  check_launch(cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...), on);
#else
  auto run = [kernel, values = std::tuple<Parameters...>(static_cast<Parameters>(arguments)...)] {
    std::apply(kernel, values);
  };
  const std::size_t limit = on.queue.shared_per_block();
  on.queue.submit([site = CallSite{on.file, on.line}, grid, block, shared_bytes, limit, run] {
    host::run_grid({site, grid, block, shared_bytes,
                    [](const void* body) { (*static_cast<const decltype(run)*>(body))(); }, &run, limit});
  });
#endif
}

}  // namespace device::inline UNFURL_BACKEND

using namespace device;  // NOLINT(google-build-using-namespace): kernels use CUDA's names

}  // namespace unfurl::kernels
