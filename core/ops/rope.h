// Rotary position embedding; see kernels/rope.h.
#pragma once
#include "core/tensor.h"

namespace unfurl {

/// [max_position, head_dim] of the accumulator type of `dtype`: the table that rope() reads.
Tensor rope_table(Index max_position, Index head_dim, double base, DType dtype, Device device);

/// x: [tokens, heads * head_dim], possibly a column slice.  positions: [tokens] of i32.  Returns [tokens,
/// heads * head_dim], contiguous.
Tensor rope(const Tensor& x, const Tensor& positions, const Tensor& table, Index heads);

}  // namespace unfurl
