// What generation on a GPU does beside products, norms and attention. All that changes from token to token is in the
// device's memory, so that one CUDA graph serves every token and the host is not waited for between two.
//
// A step feeds state->tokens[r], at state->positions[r], to row r, and leaves logits; a draw takes a token from them:
//
//   may(r, c) = table[follow[r], c] != kNeverFollows,    table: [states, cols], the state after piece c
//   token[r]  = sample(may(r, :) ? logits[r, :] : -infinity, uniform(philox(key, index[r])[0]))
//   follow[r] = table[follow[r], token[r]],   positions[r] += 1,   lengths[r] += 1,   key.step += 1
//
// Each row's token is a function of its own logits, state and index alone. Only DeviceQueue is instantiated.
#pragma once
#include "kernels/matmul_few_rows.h"
#include "kernels/philox.h"
#include "kernels/sampling.h"

namespace unfurl::kernels {

inline constexpr std::uint8_t kNeverFollows = 255;
/// In DecodeState::drawn instead of a token: nothing may follow; the logits are not finite numbers (+infinity or NaN).
inline constexpr std::int32_t kNothingFollows = -1, kNotFinite = -2;

/// Of at most kFewRows rows. The host may write all of it before a step.
struct DecodeState {
  std::int32_t shared_length = 0;         // keys that all rows have before their own
  std::int32_t tokens[kFewRows] = {};     // that the next step feeds
  std::int32_t positions[kFewRows] = {};  // theirs, from the start of the shared part
  std::int32_t lengths[kFewRows] = {};    // of the rows' own parts with them
  PhiloxKey key;                          // step: how many tokens were drawn
  std::uint64_t index[kFewRows] = {};     // of the rows' random numbers
  Sampling sampling;
  std::int32_t follow[kFewRows] = {};    // rows of the table
  float uniforms[kFewRows] = {};         // of this draw
  std::int32_t broken[kFewRows] = {};    // not 0: logits were not finite
  std::int32_t drawn[kFewRows] = {};     // tokens, or one of the above
  float log_probability[kFewRows] = {};  // theirs, as sample() says
};

struct DecodeRows {
  Index rows = 0;
  Index capacity = 0;  // of a row's own part
  Index heads = 0, kv_heads = 0, head_dim = 0;
};

/// Turns q and k by their positions as rope() does (kernels/rope.h), and appends k and v to the rows' own parts.
///
/// q, rotated: [rows, heads * head_dim], may be the same.  k, v: [rows, kv_heads * head_dim].  own_k, own_v: [rows,
/// capacity, kv_heads * head_dim], of which row r gets entry lengths[r] - 1.  table: that of rope().
template <class Queue, class T>
void rotate_and_append(const Queue& queue, Matrix<T> rotated, T* own_k, T* own_v, Matrix<const T> q, Matrix<const T> k,
                       Matrix<const T> v, const Accumulator<T>* table, const DecodeState* state,
                       const DecodeRows& shape);

/// Draws a token of each row. logits: [rows, cols].  masked: [rows, cols], overwritten.  table: [states, cols].
template <class Queue>
void draw_tokens(const Queue& queue, DecodeState* state, float* masked, Matrix<const float> logits,
                 const std::uint8_t* table, Index rows, Index cols);

}  // namespace unfurl::kernels
