// Inverted dropout; see kernels/dropout.h.
#pragma once
#include "core/tensor.h"
#include "kernels/philox.h"

namespace unfurl {

/// x: [rows, cols], contiguous. Element (r, c) draws by its number first_index + r * cols + c. rate in [0, 1); a rate
/// of 0 returns x itself.
Tensor dropout(const Tensor& x, double rate, const PhiloxKey& key, std::uint64_t first_index);

/// The same with the key's step and the first row's number read from `position`, i32 [4] on x's device that hold a
/// kernels::DropoutPosition: they may change between launches of a graph, but not between forward and backward.
Tensor dropout(const Tensor& x, double rate, const PhiloxKey& key, const Tensor& position);

}  // namespace unfurl
