// Gated linear units and GELU; see kernels/glu.h.
#pragma once
#include "core/tensor.h"
#include "kernels/glu.h"

namespace unfurl {

/// act(gate) * up. gate, up: [rows, cols], possibly column slices. Writes into `destination` (same shape, possibly a
/// column slice) where it is defined; returns the output.
Tensor glu(const Tensor& gate, const Tensor& up, kernels::Activation activation, const Tensor& destination = {});

/// gelu(x), likewise.
Tensor gelu(const Tensor& x, const Tensor& destination = {});

}  // namespace unfurl
