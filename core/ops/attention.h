// Attention over packed documents; see kernels/attention.h for masks and layout.
#pragma once
#include "core/tensor.h"

namespace unfurl {

struct AttentionLayout {
  Tensor cu_seqlens;      // [documents + 1] of i32
  Tensor prefix_lengths;  // [documents] of i32
  /// Above 0, cuDNN computes it (kernels/cudnn_attention.h): on a GPU in bf16, as if every prefix were 0. No document
  /// has more tokens.
  Index cudnn_longest = 0;
};

/// q: [tokens, heads * head_dim].  k, v: [tokens, kv_heads * head_dim]; all may be column slices. Writes into
/// `destination` ([tokens, heads * head_dim], possibly a column slice) where it is defined; returns the output.
Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionLayout& layout, Index heads,
                 Index kv_heads, double scale, const Tensor& destination = {});

}  // namespace unfurl
