// Checks of integer inputs, before a kernel follows them into memory. Of those on a device that runs CUDA kernels only
// the shapes are checked: who brings them there checks them while they are on the host.
#pragma once
#include "core/tensor.h"

namespace unfurl {

/// `indices` must be [count] of i32, each in [0, bound).
inline void require_indices(const char* name, const char* what, const Tensor& indices, Index count, Index bound) {
  require(indices.dtype() == DType::i32 && indices.shape() == Shape{count} && indices.contiguous(),
          "{}: {} must be i32 [{}], got {} {}", name, what, count, name_of(indices.dtype()), indices.shape());
  if (indices.device() != Device::cpu) return;
  const std::int32_t* values = indices.data<std::int32_t>();
  bool inside = true;
  for (Index i = 0; i < count; ++i) inside &= values[i] >= 0 && values[i] < bound;
  if (inside) return;
  for (Index i = 0; i < count; ++i) {
    require(values[i] >= 0 && values[i] < bound, "{}: {} must be in [0, {}), got {} at {}", name, what, bound,
            values[i], i);
  }
}

}  // namespace unfurl
