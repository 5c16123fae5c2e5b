// cuDNN's attention against ours, on a GPU that has both: causal documents of many lengths, empty ones among them,
// slices of joint matrices, padding; the same bits from run to run, and in a graph.
#include "kernels/cudnn_attention.h"

#include <gtest/gtest.h>

#if defined(UNFURL_CUDA)
#include <cmath>

#include "tests/support/backends.h"

namespace unfurl::tests {
namespace {

using kernels::CudaQueue;

void check(Index heads, Index kv_heads, Index head_dim) {
  SCOPED_TRACE(std::to_string(heads) + "/" + std::to_string(kv_heads) + " heads of " + std::to_string(head_dim));
  std::vector<std::int32_t> starts = {0};
  for (const Index length : {1, 64, 17, 0, 129, 200, 96, 33, 256, 5, 0, 0}) {
    starts.push_back(starts.back() + static_cast<std::int32_t>(length));
  }
  const Index documents = static_cast<Index>(starts.size()) - 1, tokens = starts.back() + 11, longest = 256;
  const Index width = heads * head_dim, kv_width = kv_heads * head_dim;
  const kernels::AttentionShape shape{tokens,   documents, heads,
                                      kv_heads, head_dim,  1 / std::sqrt(static_cast<double>(head_dim))};
  const auto q = normal<bf16>(tokens * width, 1), k = normal<bf16>(tokens * kv_width, 2),
             v = normal<bf16>(tokens * kv_width, 3), dout = normal<bf16>(tokens * width, 4);
  const auto results = [&](bool by_cudnn, bool in_graph) {
    return on_queues<CudaQueue>([&](const CudaQueue& queue) {
      using Strided = StridedMatrix<bf16, CudaQueue>;
      const Strided q_in(queue, tokens, width, 8, q), k_in(queue, tokens, kv_width, 64, k),
          v_in(queue, tokens, kv_width, 16, v), dout_in(queue, tokens, width, 24, dout);
      Strided out(queue, tokens, width, 8), dq(queue, tokens, width, 32), dk(queue, tokens, kv_width, 8),
          dv(queue, tokens, kv_width, 40);
      Guarded<float, CudaQueue> saved(queue, tokens * heads);
      const Guarded<std::int32_t, CudaQueue> bounds(queue, starts),
          prefixes(queue, std::vector<std::int32_t>(static_cast<std::size_t>(documents), 0));
      const auto run = [&] {
        if (by_cudnn) {
          kernels::cudnn_attention_forward(queue, out.matrix(), saved.data(), q_in, k_in, v_in, bounds.data(), shape,
                                           longest);
          kernels::cudnn_attention_backward(queue, dq.matrix(), dk.matrix(), dv.matrix(), dout_in, out, saved.data(),
                                            q_in, k_in, v_in, bounds.data(), shape, longest);
        } else {
          kernels::attention_forward<CudaQueue, bf16>(queue, out.matrix(), saved.data(), q_in, k_in, v_in,
                                                      bounds.data(), prefixes.data(), shape);
          kernels::attention_backward<CudaQueue, bf16>(queue, dq.matrix(), dk.matrix(), dv.matrix(), dout_in, out,
                                                       saved.data(), q_in, k_in, v_in, bounds.data(), prefixes.data(),
                                                       shape);
        }
      };
      run();
      if (in_graph) {
        queue.begin_capture();
        run();
        const CudaQueue::Graph graph = queue.end_capture();
        queue.launch(graph);
      }
      EXPECT_TRUE(out.intact() && dq.intact() && dk.intact() && dv.intact() && saved.intact());
      return Results{doubles(out.values()), doubles(dq.values()), doubles(dk.values()), doubles(dv.values())};
    });
  };
  const Results ours = results(false, false), theirs = results(true, false);
  const char* const names[] = {"out", "dq", "dk", "dv"};
  const double factor =
      std::sqrt(static_cast<double>(heads / kv_heads));  // of the heads that dk and dv are summed over
  for (std::size_t i = 0; i < ours.size(); ++i) {
    expect_close(theirs[i], ours[i], i < 2 ? 0.03 : 0.03 * factor, names[i]);
  }
  expect_same_bits(theirs, results(true, true), "in a graph");
}

TEST(CudnnAttention, AgreesWithOurs) {
  if (CudaQueue::device_count() == 0) GTEST_SKIP() << "there is no GPU";
  const std::string why = kernels::why_no_cudnn_attention(CudaQueue::properties());
  if (!why.empty()) GTEST_SKIP() << why;
  for (const Index head_dim : {64, 128}) {
    for (const Index kv_heads : {8, 2, 1}) check(8, kv_heads, head_dim);
  }
}

}  // namespace
}  // namespace unfurl::tests
#else
namespace {

TEST(CudnnAttention, AgreesWithOurs) { GTEST_SKIP() << "this program was built without CUDA"; }

}  // namespace
#endif
