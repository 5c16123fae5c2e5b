// Softmax attention over packed documents of different lengths, with online softmax (Milakov and Gimelshein, 2018; Dao
// et al., 2022): no [tokens, tokens] matrix exists.
//
//   out[i,h,:] = sum_j softmax_j(scale * q[i,h,:] . k[j,g,:]) v[j,g,:],    g = h / (heads / kv_heads)
//
// over the keys j that token i sees: those of its own document with j <= i, or within the document's prefix (its first
// prefix_lengths[d] tokens, which attend both ways). A prefix of 0 or 1 is plain causal attention.
//
// q, out: [tokens, heads * head_dim] of T.  k, v: [tokens, kv_heads * head_dim] of T.  lse: [heads, tokens] of
// Accumulator<T>, the log-sum-exp of the scaled scores, saved for backward. Document d holds tokens
// [cu_seqlens[d], cu_seqlens[d + 1]); tokens at or after cu_seqlens[documents] are padding: out 0, lse 0, gradients 0.
// kv_heads divides heads: kv_heads = heads is multi-head, 1 is multi-query attention. Deterministic on any number of
// threads.
//
// On a GPU, bf16 with heads of 64 or 128 in rows that start at multiples of 16 bytes runs on tensor cores. There the
// gradients of a document of at most 256 tokens come from one block that holds its K and V (128 tokens for heads of 128
// where a block has less than 185 KiB of shared memory, as on sm_80); those of longer ones from two kernels.
#pragma once
#include "kernels/queue.h"

namespace unfurl::kernels {

struct AttentionShape {
  Index tokens = 0;
  Index documents = 0;
  Index heads = 0;
  Index kv_heads = 0;
  Index head_dim = 0;
  double scale = 1;
};

/// Overwrites out and lse (lse may be null).
template <class Queue, class T>
void attention_forward(const Queue& queue, Matrix<T> out, Accumulator<T>* lse, Matrix<const T> q, Matrix<const T> k,
                       Matrix<const T> v, const std::int32_t* cu_seqlens, const std::int32_t* prefix_lengths,
                       const AttentionShape& shape);

/// Overwrites dq, dk and dv.
template <class Queue, class T>
void attention_backward(const Queue& queue, Matrix<T> dq, Matrix<T> dk, Matrix<T> dv, Matrix<const T> dout,
                        Matrix<const T> out, const Accumulator<T>* lse, Matrix<const T> q, Matrix<const T> k,
                        Matrix<const T> v, const std::int32_t* cu_seqlens, const std::int32_t* prefix_lengths,
                        const AttentionShape& shape);

/// One new token for each of `rows` sequences that share their first `shared_length` keys and values.
///
///   out[r,h,:] = attention of q[r,h,:] over shared keys [0, shared_length) and own keys [0, own_lengths[r])
///
/// q, out: [rows, heads * head_dim].  shared_k, shared_v: [shared_length, kv_heads * head_dim].
/// own_k, own_v: [rows, own_capacity, kv_heads * head_dim], contiguous. Overwrites out.
struct DecodeShape {
  Index rows = 0;
  Index shared_length = 0;
  Index own_capacity = 0;
  Index heads = 0;
  Index kv_heads = 0;
  Index head_dim = 0;
  double scale = 1;
  /// Where not null, shared_length is read from there, in the queue's memory, when the kernel runs; the field is then
  /// the most that it can be.
  const std::int32_t* shared_length_at = nullptr;
  /// The most that shared_length and own_lengths[r] together can be; 0: shared_length + own_capacity.
  Index most_keys = 0;
};
template <class Queue, class T>
void attention_decode(const Queue& queue, Matrix<T> out, Matrix<const T> q, Matrix<const T> shared_k,
                      Matrix<const T> shared_v, const T* own_k, const T* own_v, const std::int32_t* own_lengths,
                      const DecodeShape& shape);

}  // namespace unfurl::kernels
