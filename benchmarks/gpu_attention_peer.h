// cuDNN's attention beside ours in the table of kernels_gpu_benchmark.
#pragma once
#include "benchmarks/gpu_table.h"
#include "kernels/cudnn_attention.h"

namespace unfurl::benchmarks {

/// What attention reads and writes, as in kernels/attention.h.
struct AttentionArrays {
  Matrix<bf16> q, k, v, out, dout, dq, dk, dv;
  float* lse;
  std::int32_t *starts, *prefixes;
};

/// cuDNN's time for a pass over causal documents of up to `longest` tokens, whose arrays it overwrites; 0: they have
/// prefixes that attend both ways. Throws where it cannot, with why.
#if defined(UNFURL_CUDA)
inline Peer cudnn_attention(Gpu& gpu, const AttentionArrays& m, const kernels::AttentionShape& shape, Index longest,
                            bool backward) {
  require(longest > 0, "cuDNN's attention is causal alone");
  const std::string why = kernels::why_no_cudnn_attention(Queue::properties());
  require(why.empty(), "{}", why);
  const auto forward = [&] {
    kernels::cudnn_attention_forward(gpu.queue(), m.out, m.lse, m.q, m.k, m.v, m.starts, shape, longest);
  };
  if (!backward) return {"cuDNN", gpu.seconds(forward)};
  forward();
  return {"cuDNN", gpu.seconds([&] {
            kernels::cudnn_attention_backward(gpu.queue(), m.dq, m.dk, m.dv, m.dout, m.out, m.lse, m.q, m.k, m.v,
                                              m.starts, shape, longest);
          })};
}
#else
inline Peer cudnn_attention(Gpu&, const AttentionArrays&, const kernels::AttentionShape&, Index, bool) { return {}; }
#endif

}  // namespace unfurl::benchmarks
