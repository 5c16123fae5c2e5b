// Gated activations, one read and one write of every element (kernels/map.cuh); backward computes the activation again
// from the gate.
#include "kernels/glu.h"

#include "kernels/map.cuh"

namespace unfurl::kernels {
namespace {

// Both activations are x sigmoid(z(x)): silu with z = x, gelu with z = 2 sqrt(2/pi) (x + 0.044715 x^3), since
// (1 + tanh(u)) / 2 = sigmoid(2 u).
constexpr float kGelu1 = 1.5957691216057308f, kGelu3 = 1.5957691216057308f * 0.044715f;
constexpr float kLog2E = 1.4426950408889634f;

template <Activation kActivation>
UNFURL_DEVICE float gate_of(float x) {
  float z = x;
  if constexpr (kActivation == Activation::gelu) z = x * (x * x * kGelu3 + kGelu1);
  return __fdividef(1.0f, 1.0f + ptx::ex2(-kLog2E * z));  // 0 where the power is infinite
}

/// d(x sigmoid(z)) / dx = sigmoid(z) + x z' sigmoid(z) (1 - sigmoid(z)).
template <Activation kActivation>
UNFURL_DEVICE float derivative(float x, float gate) {
  float xz = x;
  if constexpr (kActivation == Activation::gelu) xz = x * (x * x * (3 * kGelu3) + kGelu1);
  // Held finite, so that it gives 0 where the gate is 1; a NaN is one already in the gate.
  xz = fminf(fmaxf(xz, -1e30f), 1e30f);
  return xz * (gate * (1.0f - gate)) + gate;
}

/// Null `up`: the activation alone.
template <class T, Activation kActivation>
struct GluForward {
  static constexpr int kWidth = kVectorSize<T>;
  Matrix<T> y;
  Matrix<const T> gate, up;

  struct Loaded {
    Elements<T> gate, up;
  };
  template <bool kAligned>
  UNFURL_DEVICE Loaded load(const Piece& at) const {
    Loaded in;
    in.gate = load_elements<kAligned, kWidth>(gate.row(at.row) + at.col, at.count);
    if (up.data != nullptr) in.up = load_elements<kAligned, kWidth>(up.row(at.row) + at.col, at.count);
    return in;
  }
  template <bool kAligned>
  UNFURL_DEVICE void store(const Piece& at, const Loaded& in) const {
    float out[kWidth], factor[kWidth];
    in.gate.to_floats(out);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) out[i] *= gate_of<kActivation>(out[i]);
    if (up.data != nullptr) {
      in.up.to_floats(factor);
#pragma unroll
      for (int i = 0; i < kWidth; ++i) out[i] *= factor[i];
    }
    store_elements<kAligned>(y.row(at.row) + at.col, out, at.count);
  }
};

template <class T, Activation kActivation>
struct GluBackward {
  static constexpr int kWidth = kVectorSize<T>;
  Matrix<T> dgate, dup;
  Matrix<const T> dy, gate, up;

  struct Loaded {
    Elements<T> dy, gate, up;
  };
  template <bool kAligned>
  UNFURL_DEVICE Loaded load(const Piece& at) const {
    Loaded in;
    in.dy = load_elements<kAligned, kWidth>(dy.row(at.row) + at.col, at.count);
    in.gate = load_elements<kAligned, kWidth>(gate.row(at.row) + at.col, at.count);
    if (up.data != nullptr) in.up = load_elements<kAligned, kWidth>(up.row(at.row) + at.col, at.count);
    return in;
  }
  template <bool kAligned>
  UNFURL_DEVICE void store(const Piece& at, const Loaded& in) const {
    float cotangent[kWidth], x[kWidth], dx[kWidth];
    in.dy.to_floats(cotangent);
    in.gate.to_floats(x);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      const float g = gate_of<kActivation>(x[i]);
      dx[i] = cotangent[i] * derivative<kActivation>(x[i], g);
      cotangent[i] *= x[i] * g;
    }
    if (up.data != nullptr) {
      float factor[kWidth];
      in.up.to_floats(factor);
#pragma unroll
      for (int i = 0; i < kWidth; ++i) dx[i] *= factor[i];
      store_elements<kAligned>(dup.row(at.row) + at.col, cotangent, at.count);
    }
    store_elements<kAligned>(dgate.row(at.row) + at.col, dx, at.count);
  }
};

template <Activation kActivation, class T>
void forward(const DeviceQueue& queue, Matrix<T> y, Matrix<const T> gate, Matrix<const T> up, Index rows, Index cols) {
  map<kVectorSize<T>>(queue, GluForward<T, kActivation>{y, gate, up}, rows, cols, y, gate, up);
}

template <Activation kActivation, class T>
void backward(const DeviceQueue& queue, Matrix<T> dgate, Matrix<T> dup, Matrix<const T> dy, Matrix<const T> gate,
              Matrix<const T> up, Index rows, Index cols) {
  map<kVectorSize<T>>(queue, GluBackward<T, kActivation>{dgate, dup, dy, gate, up}, rows, cols, dgate, dup, dy, gate,
                      up);
}

}  // namespace

template <class Queue, class T>
void glu_forward(const Queue& queue, Matrix<T> y, Matrix<const T> gate, Matrix<const T> up, Activation activation,
                 Index rows, Index cols) {
  if (activation == Activation::silu) return forward<Activation::silu>(queue, y, gate, up, rows, cols);
  forward<Activation::gelu>(queue, y, gate, up, rows, cols);
}

template <class Queue, class T>
void glu_backward(const Queue& queue, Matrix<T> dgate, Matrix<T> dup, Matrix<const T> dy, Matrix<const T> gate,
                  Matrix<const T> up, Activation activation, Index rows, Index cols) {
  if (activation == Activation::silu) return backward<Activation::silu>(queue, dgate, dup, dy, gate, up, rows, cols);
  backward<Activation::gelu>(queue, dgate, dup, dy, gate, up, rows, cols);
}

template <class Queue, class T>
void gelu_forward(const Queue& queue, Matrix<T> y, Matrix<const T> x, Index rows, Index cols) {
  forward<Activation::gelu, T>(queue, y, x, {}, rows, cols);
}

template <class Queue, class T>
void gelu_backward(const Queue& queue, Matrix<T> dx, Matrix<const T> dy, Matrix<const T> x, Index rows, Index cols) {
  backward<Activation::gelu, T>(queue, dx, {}, dy, x, {}, rows, cols);
}

#define UNFURL_INSTANTIATE(T)                                                                                   \
  template void glu_forward(const DeviceQueue&, Matrix<T>, Matrix<const T>, Matrix<const T>, Activation, Index, \
                            Index);                                                                             \
  template void glu_backward(const DeviceQueue&, Matrix<T>, Matrix<T>, Matrix<const T>, Matrix<const T>,        \
                             Matrix<const T>, Activation, Index, Index);                                        \
  template void gelu_forward(const DeviceQueue&, Matrix<T>, Matrix<const T>, Index, Index);                     \
  template void gelu_backward(const DeviceQueue&, Matrix<T>, Matrix<const T>, Matrix<const T>, Index, Index);
UNFURL_INSTANTIATE(float)
UNFURL_INSTANTIATE(bf16)
#undef UNFURL_INSTANTIATE

}  // namespace unfurl::kernels
