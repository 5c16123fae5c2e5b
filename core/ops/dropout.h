// Inverted dropout; see kernels/dropout.h.
#pragma once
#include "core/tensor.h"
#include "kernels/philox.h"

namespace unfurl {

/// x: [rows, cols], contiguous. Element (r, c) draws by its number first_index + r * cols + c. rate in [0, 1); a rate
/// of 0 returns x itself.
Tensor dropout(const Tensor& x, double rate, const PhiloxKey& key, std::uint64_t first_index);

}  // namespace unfurl
