// Token embedding; see kernels/embedding.h.
#pragma once
#include "core/tensor.h"

namespace unfurl {

/// ids: [tokens] of i32, each in [0, vocab).  order: [tokens] of i32, the tokens sorted by id, stable (backward sums in
/// this order).  table: [vocab, cols].  Returns [tokens, cols].
Tensor embedding(const Tensor& ids, const Tensor& order, const Tensor& table);

}  // namespace unfurl
