// Fills and copies of whole tensors. No gradient flows through them.
#pragma once
#include "core/tensor.h"

namespace unfurl {

/// Overwrites every element.
void fill(const Tensor& to, double value);

/// to = from, of the same shape. On one device between any two types that it has kernels for, rounded to the nearest;
/// between devices of one type. A copy from or to the CPU waits for the other device.
void copy_into(const Tensor& to, const Tensor& from);

/// to += from, of the same shape and device; where the types differ, `from` is converted first.
void add_into(const Tensor& to, const Tensor& from);

}  // namespace unfurl
