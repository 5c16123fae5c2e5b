// A product with a frozen matrix and what low-rank matrices add to parts of it (LoRA; Hu et al., 2021):
//
//   y = x W^T,   y[:, out part] += scale * (x[:, in part] A^T) B^T   for each (A, B)
#pragma once
#include <vector>

#include "core/tensor.h"

namespace unfurl {

/// a: [rank, columns of x from `in` on].  b: [columns of y from `out` on, rank].
struct LowRank {
  Tensor a, b;
  Index in = 0, out = 0;
};

/// x: [..., in], weight: [out, in], which gets no gradient. The parts' columns may be the same.
Tensor low_rank_linear(const Tensor& x, const Tensor& weight, const std::vector<LowRank>& parts, double scale);

}  // namespace unfurl
