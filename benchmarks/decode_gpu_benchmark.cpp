// Decoding on this machine's GPU: a token for each of 1, 4 and 8 rows as one launch of a CUDA graph, sampling included,
// against the time in which memory can give all weights once.
//
//   build/cuda/decode_gpu_benchmark [PRESET ...]     default: palm-1b palm-350m palm-125m
//   build/host-cuda/decode_gpu_benchmark --simulate  the same once on the CPU, in small, without times
//
// The step is put together here from the kernels, in bf16 on random weights: what decoding costs with them. 32 keys are
// shared by all rows, 96 are each row's own. Exit code 2 where there is no GPU.
#include <fmt/format.h>

#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

#include "benchmarks/gpu.h"
#include "kernels/attention.h"
#include "kernels/elementwise.h"
#include "kernels/embedding.h"
#include "kernels/glu.h"
#include "kernels/matmul.h"
#include "kernels/rms_norm.h"
#include "kernels/rope.h"
#include "kernels/sampling.h"

namespace unfurl::benchmarks {
namespace {

using kernels::Matrix;

constexpr Index kShared = 32, kOwn = 96, kSteps = kSimulated ? 1 : 64;
constexpr int kRounds = kSimulated ? 1 : 7;

/// One step of `rows` rows: from `tokens` on the device to the next ones.
class Step {
 public:
  Step(Gpu& gpu, const train::ModelConfig& model, Index rows)
      : queue_(gpu.queue()),
        model_(model),
        rows_(rows),
        attention_(model.heads * model.head_dim),
        kv_(model.kv_heads * model.head_dim),
        joint_(attention_ + 2 * kv_ + 2 * model.ff_width) {
    const Index width = model.width, out = attention_ + model.ff_width;
    embedding_ = gpu.random<bf16>(model.vocab_size * width);
    gain_ = gpu.random<bf16>(width);
    for (Index i = 0; i < model.layers; ++i) {
      layers_.push_back({gpu.random<bf16>(joint_ * width), gpu.random<bf16>(width * out),
                         gpu.random<bf16>(kShared * kv_), gpu.random<bf16>(kShared * kv_),
                         gpu.random<bf16>(rows * kOwn * kv_), gpu.random<bf16>(rows * kOwn * kv_)});
    }
    weights_ = static_cast<double>(model.layers * width * (joint_ + out) + model.vocab_size * width);
    tokens_ = gpu.upload(tests::integers(rows, static_cast<std::int32_t>(model.vocab_size), 1));
    const auto fixed = [&](Index value) {
      return gpu.upload(std::vector<std::int32_t>(static_cast<std::size_t>(rows), static_cast<std::int32_t>(value)));
    };
    positions_ = fixed(kShared + kOwn - 1);
    lengths_ = fixed(kOwn);
    uniforms_ = gpu.upload(std::vector<float>(static_cast<std::size_t>(rows), 0.7f));
    table_ = gpu.empty<float>(model.context * model.head_dim);
    kernels::rope_table<Queue, float>(queue_, table_, model.context, model.head_dim, model.rope_base);
    rstd_ = gpu.empty<float>(rows);
    for (bf16*& buffer : sums_) buffer = gpu.empty<bf16>(rows * width);
    normed_ = gpu.empty<bf16>(rows * width);
    projected_ = gpu.empty<bf16>(rows * joint_);
    joined_ = gpu.empty<bf16>(rows * out);
    added_ = gpu.empty<bf16>(rows * width);
    logits_ = gpu.empty<bf16>(rows * model.vocab_size);
  }

  /// Bytes of weights that a step must read.
  double weight_bytes() const { return 2 * weights_; }

  void run() const {
    const Index width = model_.width, ff = model_.ff_width, size = model_.head_dim, out = attention_ + ff;
    kernels::embedding_forward<Queue, bf16>(queue_, {sums_[0], width}, tokens_, embedding_, rows_, width);
    Index at = 0;  // of the residual stream in sums_
    const bf16* residual = nullptr;
    const auto norm = [&] {
      const Index next = residual == nullptr ? at : 1 - at;
      kernels::rms_norm_forward<Queue, bf16>(queue_, {normed_, width}, {sums_[next], width}, rstd_, {sums_[at], width},
                                             {residual, width}, gain_, rows_, width, 1e-6f);
      at = next;
    };
    for (const Layer& layer : layers_) {
      norm();
      kernels::matmul<Queue, bf16, bf16>(queue_, {projected_, joint_}, {normed_, width}, false, {layer.input, width},
                                         true, rows_, joint_, width, false);
      const Matrix<bf16> q{projected_, joint_}, k{projected_ + attention_, joint_},
          v{projected_ + attention_ + kv_, joint_}, gate{projected_ + attention_ + 2 * kv_, joint_},
          up{projected_ + attention_ + 2 * kv_ + ff, joint_};
      kernels::rope<Queue, bf16>(queue_, q, q, positions_, table_, rows_, model_.heads, size, false);
      // The new key and value become each row's last.
      const Index last = (kOwn - 1) * kv_;
      kernels::rope<Queue, bf16>(queue_, {layer.own_k + last, kOwn * kv_}, k, positions_, table_, rows_,
                                 model_.kv_heads, size, false);
      kernels::convert<Queue, bf16, bf16>(queue_, {layer.own_v + last, kOwn * kv_}, v, rows_, kv_);
      kernels::attention_decode<Queue, bf16>(
          queue_, {joined_, out}, q, {layer.shared_k, kv_}, {layer.shared_v, kv_}, layer.own_k, layer.own_v, lengths_,
          {rows_, kShared, kOwn, model_.heads, model_.kv_heads, size, 1 / std::sqrt(static_cast<double>(size))});
      kernels::glu_forward<Queue, bf16>(queue_, {joined_ + attention_, out}, gate, up, kernels::Activation::silu, rows_,
                                        ff);
      kernels::matmul<Queue, bf16, bf16>(queue_, {added_, width}, {joined_, out}, false, {layer.output, out}, true,
                                         rows_, width, out, false);
      residual = added_;
    }
    norm();
    kernels::matmul<Queue, bf16, bf16>(queue_, {logits_, model_.vocab_size}, {normed_, width}, false,
                                       {embedding_, width}, true, rows_, model_.vocab_size, width, false);
    kernels::sample<Queue, bf16>(queue_, tokens_, nullptr, {logits_, model_.vocab_size}, uniforms_,
                                 {.temperature = 0.8f, .top_k = 0, .top_p = 0.95f, .min_p = 0}, rows_,
                                 model_.vocab_size);
  }

 private:
  struct Layer {
    bf16 *input, *output, *shared_k, *shared_v, *own_k, *own_v;
  };
  const Queue& queue_;
  const train::ModelConfig model_;
  const Index rows_, attention_, kv_, joint_;
  double weights_ = 0;
  std::vector<Layer> layers_;
  bf16 *embedding_, *gain_, *sums_[2], *normed_, *projected_, *joined_, *added_, *logits_;
  std::int32_t *tokens_, *positions_, *lengths_;
  float *uniforms_, *table_, *rstd_;
};

void measure(Gpu& gpu, const Gpu::Ceilings& ceilings, const std::string& preset) {
  const train::ModelConfig model = model_of(preset);
  const Queue& queue = gpu.queue();
  for (const Index rows : {1, 4, 8}) {
    {
      const Step step(gpu, model, rows);
      step.run();  // finds all memory that the graph needs
      queue.synchronize();
      queue.begin_capture();
      step.run();
      const Queue::Graph graph = queue.end_capture();
      std::vector<double> seconds;
      for (int round = 0; round < kRounds + 2; ++round) {
        const Queue::Event before = queue.record();
        for (Index i = 0; i < kSteps; ++i) queue.launch(graph);
        const Queue::Event after = queue.record();
        const double time = Queue::seconds_between(before, after) / kSteps;
        if (round >= 2) seconds.push_back(time);
      }
      if (kSimulated) {
        fmt::print("{} batch {}: simulated, {} launches of a graph\n", preset, rows, (kRounds + 2) * kSteps);
      } else {
        const double time = median(seconds), floor = step.weight_bytes() / ceilings.copy;
        fmt::print("{} batch {}: {:.3f} ms a token, {:.0f} tokens/s, floor {:.3f} ms ({:.0f} % of its speed)\n", preset,
                   rows, time * 1e3, static_cast<double>(rows) / time, floor * 1e3, 100 * floor / time);
      }
      std::fflush(stdout);
    }
    gpu.clear();
  }
}

int run(std::vector<std::string> presets) {
  presets = presets_or_all(std::move(presets));
  Gpu gpu;
  const Gpu::Ceilings ceilings = gpu.measure_ceilings();
  print_heading(ceilings);
  if (!kSimulated) fmt::print("floor: the weights' bytes at the speed of the copy\n");
  for (const std::string& preset : presets) measure(gpu, ceilings, preset);
  return 0;
}

}  // namespace
}  // namespace unfurl::benchmarks

int main(int count, char** arguments) {
  return unfurl::benchmarks::run_benchmark(count, arguments, unfurl::benchmarks::run);
}
