// Whether this program holds code that the GPU in use can run: that of a bundle (scripts/bundle.sh) is Hopper's alone.
#include "kernels/device/device.h"

#if defined(__CUDACC__)
namespace unfurl::kernels {
namespace {

__global__ void __launch_bounds__(32) probed_kernel() {}

}  // namespace

bool has_code_for_current_gpu() {
  cudaFuncAttributes found;
  const bool has = cudaFuncGetAttributes(&found, probed_kernel) == cudaSuccess;
  cudaGetLastError();
  return has;
}

}  // namespace unfurl::kernels
#endif
