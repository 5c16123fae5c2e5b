#include "core/ops/attention.h"

#include <type_traits>

#include "core/autograd.h"
#include "core/dispatch.h"
#include "kernels/attention.h"
#include "kernels/cudnn_attention.h"

namespace unfurl {
namespace {

template <class T, class Queue>
constexpr bool kHasCudnn = std::is_same_v<T, bf16>&& std::is_same_v<Queue, kernels::CudaQueue>;

void require_matrix(const char* what, const Tensor& x, const Shape& shape, DType dtype) {
  require(x.defined() && x.shape() == shape && x.dtype() == dtype, "attention: {} must be {} {}, got {} {}", what,
          name_of(dtype), shape, x.defined() ? name_of(x.dtype()) : "nothing", x.shape());
}

/// Checks what a kernel would follow into memory, as far as it is on the host (core/ops/indices.h); returns the number
/// of documents.
Index require_layout(const AttentionLayout& layout, Index tokens) {
  const Tensor &starts = layout.cu_seqlens, &prefixes = layout.prefix_lengths;
  require(starts.defined() && starts.dtype() == DType::i32 && starts.rank() == 1 && starts.numel() > 0 &&
              starts.contiguous(),
          "attention: cu_seqlens must be i32 [documents + 1], got {}", starts.shape());
  const Index documents = starts.numel() - 1;
  require(prefixes.defined() && prefixes.dtype() == DType::i32 && prefixes.shape() == Shape{documents} &&
              prefixes.contiguous(),
          "attention: prefix_lengths must be i32 [{}], got {}", documents, prefixes.shape());
  if (starts.device() != Device::cpu) return documents;
  const std::int32_t *start = starts.data<std::int32_t>(), *prefix = prefixes.data<std::int32_t>();
  require(start[0] == 0 && start[documents] <= tokens,
          "attention: cu_seqlens must lead from 0 to at most {} tokens, got {} to {}", tokens, start[0],
          start[documents]);
  for (Index d = 0; d < documents; ++d) {
    require(start[d] <= start[d + 1], "attention: cu_seqlens must not decrease, got {} after {}", start[d + 1],
            start[d]);
    require(prefix[d] >= 0 && prefix[d] <= start[d + 1] - start[d],
            "attention: prefix {} of document {} must be in [0, {}]", prefix[d], d, start[d + 1] - start[d]);
  }
  return documents;
}

}  // namespace

Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionLayout& layout, Index heads,
                 Index kv_heads, double scale, const Tensor& destination) {
  require(q.rank() == 2, "attention: q must be [tokens, heads * head_dim], got {}", q.shape());
  require(heads > 0 && kv_heads > 0 && heads % kv_heads == 0 && q.cols() % heads == 0 && q.cols() > 0,
          "attention: {} heads, {} for keys and values, do not divide a width of {}", heads, kv_heads, q.cols());
  const Index tokens = q.size(0), head_dim = q.cols() / heads;
  require_matrix("k", k, {tokens, kv_heads * head_dim}, q.dtype());
  require_matrix("v", v, {tokens, kv_heads * head_dim}, q.dtype());
  if (destination.defined()) require_matrix("destination", destination, q.shape(), q.dtype());
  const kernels::AttentionShape shape{tokens, require_layout(layout, tokens), heads, kv_heads, head_dim, scale};

  const Index cudnn_longest = layout.cudnn_longest;
  require(cudnn_longest == 0 || ((q.device() == Device::cuda || q.device() == Device::meta) &&
                                 q.dtype() == DType::bf16 && (head_dim == 64 || head_dim == 128)),
          "attention: cuDNN computes it on a GPU in bf16 with heads of 64 or 128 elements, got heads of {} in {} on {}",
          head_dim, name_of(q.dtype()), name_of(q.device()));

  const Tensor out = destination.defined() ? destination : q.empty_like();
  Tensor lse;
  if (recording({q, k, v})) lse = Tensor::empty({heads, tokens}, accumulator(q.dtype()), q.device());
  dispatch("attention", q, [&]<class T>(const auto& queue) {
    if constexpr (kHasCudnn<T, std::remove_cvref_t<decltype(queue)>>) {
      if (cudnn_longest > 0) {
        return kernels::cudnn_attention_forward(queue, out.matrix<T>(), lse.data<float>(), q.matrix<const T>(),
                                                k.matrix<const T>(), v.matrix<const T>(),
                                                layout.cu_seqlens.data<std::int32_t>(), shape, cudnn_longest);
      }
    }
    kernels::attention_forward(queue, out.matrix<T>(), lse.data<kernels::Accumulator<T>>(), q.matrix<const T>(),
                               k.matrix<const T>(), v.matrix<const T>(), layout.cu_seqlens.data<std::int32_t>(),
                               layout.prefix_lengths.data<std::int32_t>(), shape);
  });
  record("attention", {q, k, v}, {out}, [=](Backward& backward) {
    // One pass makes all three gradients; one that nobody needs goes to memory that is thrown away.
    const auto gradient = [&](int i, const Tensor& input) {
      const Tensor wanted = backward.gradient(i);
      return wanted.defined() ? wanted : input.empty_like();
    };
    const Tensor dout = backward.cotangent(0);
    const Tensor dq = gradient(0, q), dk = gradient(1, k), dv = gradient(2, v);
    dispatch("attention", q, [&]<class T>(const auto& queue) {
      if constexpr (kHasCudnn<T, std::remove_cvref_t<decltype(queue)>>) {
        if (cudnn_longest > 0) {
          return kernels::cudnn_attention_backward(queue, dq.matrix<T>(), dk.matrix<T>(), dv.matrix<T>(),
                                                   dout.matrix<const T>(), out.matrix<const T>(), lse.data<float>(),
                                                   q.matrix<const T>(), k.matrix<const T>(), v.matrix<const T>(),
                                                   layout.cu_seqlens.data<std::int32_t>(), shape, cudnn_longest);
        }
      }
      kernels::attention_backward(queue, dq.matrix<T>(), dk.matrix<T>(), dv.matrix<T>(), dout.matrix<const T>(),
                                  out.matrix<const T>(), lse.data<kernels::Accumulator<T>>(), q.matrix<const T>(),
                                  k.matrix<const T>(), v.matrix<const T>(), layout.cu_seqlens.data<std::int32_t>(),
                                  layout.prefix_lengths.data<std::int32_t>(), shape);
    });
  });
  return out;
}

}  // namespace unfurl
