// The language-model head fused with cross-entropy, in chunks of rows: no [rows, vocab] matrix outlives a chunk.
#pragma once
#include "core/tensor.h"

namespace unfurl {

/// sum_r weights[r] * (logsumexp(logits[r,:]) - logits[r, targets[r]]),   logits = hidden W^T
///
/// hidden: [rows, width].  weight: [vocab, width].  targets: [rows] of i32.  weights: [rows] of the accumulator type.
/// Returns a scalar (shape []) of the accumulator type. With `row_losses`, that tensor becomes the rows' terms, [rows].
/// On a tape the gradients are made chunk by chunk in this pass and scaled in backward. With `root`, the loss must be
/// what Tape::backward() starts from, without a cotangent: then the gradient of a weight that is a leaf is added where
/// it is kept in this pass, and no other [vocab, width] exists. Without it, backward reads the cotangent from the
/// device.
Tensor head_cross_entropy(const Tensor& hidden, const Tensor& weight, const Tensor& targets, const Tensor& weights,
                          Index chunk_rows = 256, Tensor* row_losses = nullptr, bool root = false);

}  // namespace unfurl
