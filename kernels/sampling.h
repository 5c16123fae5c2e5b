// Draws the next token of each row from its logits.
//
//   p = softmax(logits / temperature), then in this order, each over what the one before left and renormalised:
//   top_k: the k most probable (0: all); top_p: the smallest set of the most probable whose sum reaches top_p (1: all);
//   min_p: those with at least min_p times the greatest probability (0: all).
//   token = the first, in order of falling probability (ties: lower id first), at which the cumulative sum exceeds u.
//
// logits: [rows, cols] of T.  uniforms: [rows] in [0, 1).  tokens: [rows].  log_probability: [rows], the natural log of
// the token's probability under the plain softmax (temperature 1, nothing cut off); may be null.
// temperature 0 takes the most probable token. A logit of -infinity is never drawn; a row of nothing else gives token
// -1.
#pragma once
#include "kernels/queue.h"

namespace unfurl::kernels {

struct Sampling {
  float temperature = 1;
  Index top_k = 0;
  float top_p = 1;
  float min_p = 0;
};

template <class Queue, class T>
void sample(const Queue& queue, std::int32_t* tokens, Accumulator<T>* log_probability, Matrix<const T> logits,
            const float* uniforms, const Sampling& config, Index rows, Index cols);

/// The same with the settings in the queue's memory, read when the kernel runs.
template <class Queue, class T>
void sample_by(const Queue& queue, std::int32_t* tokens, Accumulator<T>* log_probability, Matrix<const T> logits,
               const float* uniforms, const Sampling* config, Index rows, Index cols);

}  // namespace unfurl::kernels
