// Small kernels between the products of a decoding step: each is over in the time that a launch takes, so there are as
// few of them as can be.
#include "kernels/decode_step.h"

#include "kernels/device/device.h"
#include "kernels/device/vector.h"

namespace unfurl::kernels {
namespace {

constexpr int kThreads = 256;
constexpr int kEach = 8;  // logits of a thread

template <class T>
struct Append {
  Matrix<T> rotated;
  T* own_k;
  T* own_v;
  Matrix<const T> q, k, v;
  const float* table;
  const DecodeState* state;
  Index capacity;
  int rows, heads, kv_heads, head_dim;
};

/// A thread has dimension i and i + head_dim / 2 of a head of q, k or v.
template <class T>
__global__ void __launch_bounds__(kThreads) append_kernel(Append<T> a) {
  const int half = a.head_dim / 2, all_heads = a.heads + 2 * a.kv_heads;
  const int at = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x);
  const int row = at / (all_heads * half), head = at / half % all_heads, i = at % half;
  if (row >= a.rows) return;
  const Index slot = (row * a.capacity + a.state->lengths[row] - 1) * (a.kv_heads * a.head_dim);
  if (head >= a.heads + a.kv_heads) {
    const int column = (head - a.heads - a.kv_heads) * a.head_dim + i;
    a.own_v[slot + column] = a.v.row(row)[column];
    a.own_v[slot + column + half] = a.v.row(row)[column + half];
    return;
  }
  const bool key = head >= a.heads;
  const int column = (key ? head - a.heads : head) * a.head_dim + i;
  const T* from = (key ? a.k.row(row) : a.q.row(row)) + column;
  T* to = (key ? a.own_k + slot : a.rotated.row(row)) + column;
  const float* angles = a.table + Index{a.state->positions[row]} * a.head_dim;
  const float cosine = angles[i], sine = angles[half + i];
  const float low = as_float(from[0]), high = as_float(from[half]);
  to[0] = as<T>(low * cosine - high * sine);
  to[half] = as<T>(low * sine + high * cosine);
}

/// blockIdx: row, part of its logits.
__global__ void __launch_bounds__(kThreads)
    mask_kernel(DecodeState* state, float* masked, Matrix<const float> logits, const std::uint8_t* table, int cols) {
  const int row = static_cast<int>(blockIdx.x), part = static_cast<int>(blockIdx.y);
  const float* from = logits.row(row);
  const std::uint8_t* follows = table + Index{state->follow[row]} * cols;
  bool finite = true;
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const int col = (part * kEach + i) * kThreads + static_cast<int>(threadIdx.x);
    if (col >= cols) continue;
    const float logit = from[col];
    finite = finite && logit < INFINITY;  // false for NaN, too
    masked[Index{row} * cols + col] = follows[col] == kNeverFollows ? -INFINITY : logit;
  }
  if (!finite) atomicOr(&state->broken[row], 1);
  if (part == 0 && threadIdx.x == 0) state->uniforms[row] = uniform(philox(state->key, state->index[row])[0]);
}

__global__ void __launch_bounds__(32)
    advance_kernel(DecodeState* state, const std::uint8_t* table, int rows, int cols) {
  const int row = static_cast<int>(threadIdx.x);
  if (row == 0) ++state->key.step;
  if (row >= rows) return;
  const std::int32_t token = state->tokens[row];
  state->drawn[row] = state->broken[row] != 0 ? kNotFinite : token < 0 ? kNothingFollows : token;
  if (token < 0) {
    state->tokens[row] = 0;  // the row goes on with any
  } else if (const std::uint8_t next = table[Index{state->follow[row]} * cols + token]; next != kNeverFollows) {
    state->follow[row] = next;
  }
  ++state->positions[row];
  ++state->lengths[row];
}

}  // namespace

template <class Queue, class T>
void rotate_and_append(const Queue& queue, Matrix<T> rotated, T* own_k, T* own_v, Matrix<const T> q, Matrix<const T> k,
                       Matrix<const T> v, const Accumulator<T>* table, const DecodeState* state,
                       const DecodeRows& shape) {
  const Append<T> a{rotated,
                    own_k,
                    own_v,
                    q,
                    k,
                    v,
                    table,
                    state,
                    shape.capacity,
                    static_cast<int>(shape.rows),
                    static_cast<int>(shape.heads),
                    static_cast<int>(shape.kv_heads),
                    static_cast<int>(shape.head_dim)};
  const Index threads = shape.rows * (shape.heads + 2 * shape.kv_heads) * (shape.head_dim / 2);
  launch(queue, append_kernel<T>, dim3(static_cast<unsigned>((threads + kThreads - 1) / kThreads)), dim3(kThreads), 0,
         a);
}

template <class Queue>
void draw_tokens(const Queue& queue, DecodeState* state, float* masked, Matrix<const float> logits,
                 const std::uint8_t* table, Index rows, Index cols) {
  const Index parts = (cols + kThreads * kEach - 1) / (kThreads * kEach);
  launch(queue, mask_kernel, dim3(static_cast<unsigned>(rows), static_cast<unsigned>(parts)), dim3(kThreads), 0, state,
         masked, logits, table, static_cast<int>(cols));
  sample_by<Queue, float>(queue, state->tokens, state->log_probability, {masked, cols}, state->uniforms,
                          &state->sampling, rows, cols);
  launch(queue, advance_kernel, dim3(1), dim3(32), 0, state, table, static_cast<int>(rows), static_cast<int>(cols));
}

#define UNFURL_INSTANTIATE(T)                                                                              \
  template void rotate_and_append(const DeviceQueue&, Matrix<T>, T*, T*, Matrix<const T>, Matrix<const T>, \
                                  Matrix<const T>, const float*, const DecodeState*, const DecodeRows&);
UNFURL_INSTANTIATE(float)
UNFURL_INSTANTIATE(bf16)
#undef UNFURL_INSTANTIATE
template void draw_tokens(const DeviceQueue&, DecodeState*, float*, Matrix<const float>, const std::uint8_t*, Index,
                          Index);

}  // namespace unfurl::kernels
