// Attention by cuDNN, on a Hopper GPU (compute capability 9.x): the formula and shapes of kernels/attention.h for bf16
// with heads of 64 or 128 elements, causal alone: every prefix is taken to be 0 or 1. Deterministic.
//
// Rows start at multiples of 16 bytes. No document has more than `longest` tokens; what a longer one gets is undefined.
// What it needs beside its arguments is in the queue's scratch memory: for backward, two bytes for each score of each
// head, as if every document were as long as the longest, which is what cuDNN's deterministic form asks for. The first
// call of a shape makes a plan, which takes the host seconds and must not be captured into a graph; later ones may be.
#pragma once
#include <string>

#include "kernels/attention.h"
#include "kernels/device/runtime.h"

namespace unfurl::kernels {

/// Why a GPU cannot compute it, as one line: the library or the GPU is missing or too old. "" where it can.
std::string why_no_cudnn_attention(const DeviceProperties& device);

/// Overwrites out and stats; stats, [tokens, heads], is what backward needs. Padding of out is 0, of stats undefined.
void cudnn_attention_forward(const CudaQueue& queue, Matrix<bf16> out, float* stats, Matrix<const bf16> q,
                             Matrix<const bf16> k, Matrix<const bf16> v, const std::int32_t* cu_seqlens,
                             const AttentionShape& shape, Index longest);

/// Overwrites dq, dk and dv.
void cudnn_attention_backward(const CudaQueue& queue, Matrix<bf16> dq, Matrix<bf16> dk, Matrix<bf16> dv,
                              Matrix<const bf16> dout, Matrix<const bf16> out, const float* stats, Matrix<const bf16> q,
                              Matrix<const bf16> k, Matrix<const bf16> v, const std::int32_t* cu_seqlens,
                              const AttentionShape& shape, Index longest);

}  // namespace unfurl::kernels
