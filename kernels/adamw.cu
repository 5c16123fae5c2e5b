// One pass over flat buffers, bound by their bytes: weight, m, v and gradient are read and written once, the bf16 copy
// and the cleared gradient on the way. What changes from step to step is read from device memory.
#include "kernels/adamw.h"

#include <cmath>

#include "kernels/map.cuh"

namespace unfurl::kernels {
namespace {

struct Update {
  static constexpr int kWidth = 4;
  float *weight, *m, *v, *gradient;
  bf16* copy;
  const OptimizerStep* step;  // null: what follows holds as it is
  float gradient_scale, rate, deviation, decay;
  bool clear;
  float beta1, one_minus_beta1, beta2, one_minus_beta2, eps, weight_decay;

  struct Loaded {
    Elements<float> weight, m, v, gradient;
  };
  template <bool kAligned>
  UNFURL_DEVICE Loaded load(const Piece& at) const {
    return {load_elements<kAligned, kWidth>(weight + at.col, at.count),
            load_elements<kAligned, kWidth>(m + at.col, at.count),
            load_elements<kAligned, kWidth>(v + at.col, at.count),
            load_elements<kAligned, kWidth>(gradient + at.col, at.count)};
  }
  template <bool kAligned>
  UNFURL_DEVICE void store(const Piece& at, const Loaded& in) const {
    float scale = gradient_scale, by = rate, root = deviation, shrink = decay;
    bool skip = false;
    if (step != nullptr) {
      scale = step->gradient_scale;
      by = step->rate;
      root = step->deviation;
      shrink = static_cast<float>(step->learning_rate) * weight_decay;
      skip = step->skip != 0;
    }
    float w[kWidth], m_new[kWidth], v_new[kWidth], g[kWidth];
    in.gradient.to_floats(g);
    if (!skip) {
      in.weight.to_floats(w);
      in.m.to_floats(m_new);
      in.v.to_floats(v_new);
#pragma unroll
      for (int i = 0; i < kWidth; ++i) {
        const float scaled = g[i] * scale;
        m_new[i] = beta1 * m_new[i] + one_minus_beta1 * scaled;
        v_new[i] = beta2 * v_new[i] + one_minus_beta2 * (scaled * scaled);
        // Decay is subtracted, not folded into a factor 1 - decay: that factor would round away most of a small decay.
        w[i] = (w[i] - shrink * w[i]) - by * (m_new[i] / (sqrtf(v_new[i]) * root + eps));
      }
      store_elements<kAligned>(weight + at.col, w, at.count);
      store_elements<kAligned>(m + at.col, m_new, at.count);
      store_elements<kAligned>(v + at.col, v_new, at.count);
      if (copy != nullptr) store_copy<kAligned>(copy + at.col, w, at.count);
    }
    if (!clear) return;
#pragma unroll
    for (int i = 0; i < kWidth; ++i) g[i] = 0;
    store_elements<kAligned>(gradient + at.col, g, at.count);
  }
};

Update with(float* weight, float* m, float* v, float* gradient, const AdamW& config) {
  Update u{};
  u.weight = weight, u.m = m, u.v = v, u.gradient = gradient;
  u.beta1 = static_cast<float>(config.beta1), u.one_minus_beta1 = static_cast<float>(1 - config.beta1);
  u.beta2 = static_cast<float>(config.beta2), u.one_minus_beta2 = static_cast<float>(1 - config.beta2);
  u.eps = static_cast<float>(config.eps), u.weight_decay = static_cast<float>(config.weight_decay);
  return u;
}

void run(const LaunchOn& on, const Update& u, Index count) {
  const auto row = [&](auto* data) { return Matrix<std::remove_pointer_t<decltype(data)>>{data, count}; };
  map<Update::kWidth>(on, u, 1, count, row(u.weight), row(u.m), row(u.v), row(u.gradient), row(u.copy));
}

}  // namespace

template <class Queue, class T>
void adamw(const Queue& queue, T* weight, T* m, T* v, T* gradient, const AdamW& config, bool clear, Index count) {
  Update u = with(weight, m, v, gradient, config);
  const double steps = static_cast<double>(config.step);
  u.gradient_scale = static_cast<float>(config.gradient_scale);
  u.rate = static_cast<float>(config.learning_rate / (1 - std::pow(config.beta1, steps)));
  u.deviation = static_cast<float>(1 / std::sqrt(1 - std::pow(config.beta2, steps)));
  u.decay = static_cast<float>(config.learning_rate * config.weight_decay);
  u.clear = clear;
  run(queue, u, count);
}

template <class Queue>
void adamw_step(const Queue& queue, float* weight, float* m, float* v, float* gradient, bf16* copy,
                const OptimizerStep* step, const AdamW& config, Index count) {
  Update u = with(weight, m, v, gradient, config);
  u.copy = copy;
  u.step = step;
  u.clear = true;
  run(queue, u, count);
}

template <class Queue, class T>
double sum_of_squares(const Queue& queue, const T* x, Index count) {
  const auto blocks = static_cast<std::size_t>(norm_blocks(count));
  if (blocks == 0) return 0;
  auto* partials = static_cast<double*>(queue.scratch(blocks * sizeof(double)));
  sum_squares_of_blocks(queue, partials, x, count);
  auto* on_host = static_cast<double*>(Queue::allocate_host(blocks * sizeof(double)));
  queue.copy(on_host, partials, blocks * sizeof(double));
  queue.synchronize();
  double sum = 0;
  for (std::size_t i = 0; i < blocks; ++i) sum += on_host[i];
  Queue::free_host(on_host);
  return sum;
}

template void adamw(const DeviceQueue&, float*, float*, float*, float*, const AdamW&, bool, Index);
template void adamw_step(const DeviceQueue&, float*, float*, float*, float*, bf16*, const OptimizerStep*, const AdamW&,
                         Index);
template double sum_of_squares(const DeviceQueue&, const float*, Index);
template double sum_of_squares(const DeviceQueue&, const bf16*, Index);

}  // namespace unfurl::kernels
