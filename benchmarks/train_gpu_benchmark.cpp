// Training on this machine's GPU: steps of 32,768 tokens, documents of 256 without padding, bf16, AdamW.
//
//   build/cuda/train_gpu_benchmark speed [PRESET ...]        tokens/s over 30 steps after 10, by CUDA events; share of
//                                                            the dense peak; memory; share of each class of kernels
//   build/cuda/train_gpu_benchmark losses STEPS PRESET       the loss of each step, one a line
//   build/cuda/train_gpu_benchmark export FOLDER PRESET      weights.safetensors and work.json: what a peer needs
//
// PRESET: palm-125m, palm-350m, palm-1b (default: all), or palm-tiny. Exit code 2 where there is no GPU.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <map>
#include <string>
#include <vector>

#include "benchmarks/gpu.h"
#include "benchmarks/train_work.h"
#include "core/autograd.h"
#include "core/device.h"
#include "core/trace.h"
#include "train/trainer/inputs.h"

namespace unfurl::train {
namespace {

constexpr Index kWarmUp = 10, kTimed = 30, kProfiled = 5;

Recipe recipe_of(const std::string& preset) {
  return parse_recipe(fmt::format(R"(
model: {{preset: {}, vocab_size: 32000, context: 256, dropout: 0}}
batch: {{slots: 1, micro_batches: 1, tokens: 32768, documents: 128}}
optimizer: {{name: adamw, learning_rate: 3.0e-4, beta1: 0.9, beta2: 0.95, eps: 1.0e-8, weight_decay: 0.1, clip_norm: 1}}
schedule: {{name: constant, warmup_steps: 10}}
train: {{steps: 1000}}
)",
                                  preset),
                      preset);
}

/// 6 N + 6 L T d: products with the weights (the tied embedding counts once, as the head) and causal attention.
double flops_per_token(const ModelConfig& model, Index parameters) {
  return 6.0 * static_cast<double>(parameters) +
         6.0 * static_cast<double>(model.layers * model.context * model.heads * model.head_dim);
}

/// "attention", "norms", ...: what an operation's name in a trace counts as.
std::string class_of(const std::string& name) {
  if (name.starts_with("linear") || name == "product") return "matrix products";
  if (name.starts_with("head"))
    return name.find("cross_entropy") == std::string::npos || name.find(": d") != std::string::npos
               ? "the head's products"
               : "cross-entropy";
  if (name.starts_with("attention")) return "attention";
  if (name.find("norm") != std::string::npos && name != "gradient_norm") return "norms";
  if (name.starts_with("glu") || name.starts_with("gelu")) return "gated activation";
  if (name.starts_with("rope")) return "rotation";
  if (name.starts_with("embedding") || name == "gather_rows") return "embedding, rows of targets";
  if (name.starts_with("adam") || name.starts_with("adafactor") || name == "gradient_norm" || name == "optimiser") {
    return "optimiser";
  }
  return "all else";
}

/// Each operation waits for the GPU before and after: so the shares are of time in kernels, and of their launches.
void print_shares(Work& work) {
  const ModelInputs inputs = model_inputs(work.first_batch(), 1e-4, work.decoder().embedding().dtype(), Device::cuda);
  const auto once = [&] {
    Tape tape;
    Tensor loss;
    {
      const TapeScope scope(tape);
      loss = work.decoder().loss(inputs, {}, {.root = true});
    }
    tape.backward(loss);
    const TraceScope trace("optimiser");
    work.step().optimizer().step(1e-9);
  };
  once();
  const auto path = std::filesystem::temp_directory_path() / fmt::format("unfurl-trace-{}.json", ::getpid());
  Trace::start([] { synchronize(Device::cuda); });
  for (Index i = 0; i < kProfiled; ++i) once();
  Trace::write(path);
  const auto by_name = own_seconds(Json::parse(read_file(path)));
  std::filesystem::remove(path);
  std::map<std::string, double> classes;
  double all = 0;
  for (const auto& [name, seconds] : by_name) {
    classes[class_of(name)] += seconds;
    all += seconds;
  }
  std::vector<std::pair<double, std::string>> rows;
  for (const auto& [name, seconds] : classes) rows.emplace_back(seconds, name);
  std::sort(rows.rbegin(), rows.rend());
  for (const auto& [seconds, name] : rows) {
    fmt::print("  {:5.1f} %  {:9.3f} ms  {}\n", 100 * seconds / all, 1e3 * seconds / kProfiled, name);
  }
}

void measure(const std::string& preset) {
  const kernels::DeviceProperties device = properties_of(Device::cuda);
  Work work(recipe_of(preset), Prefixes::none, Device::cuda, DType::bf16);
  const auto& queue = device_queue<kernels::CudaQueue>();
  // Two steps are under way, as in the trainer: the GPU never waits for the host.
  const auto run = [&](Index steps) {
    work.start();
    for (Index i = 1; i < steps; ++i) {
      work.start();
      work.finish();
    }
    work.finish();
  };
  run(kWarmUp);
  Allocator::of(Device::cuda).reset_peak();
  const auto before = queue.record();
  run(kTimed);
  const auto after = queue.record();
  const double seconds = kernels::CudaQueue::seconds_between(before, after) / kTimed;
  const double rate = static_cast<double>(work.tokens()) / seconds;
  const double flops = flops_per_token(work.recipe().model, work.decoder().parameters().count());
  const double peak = benchmarks::dense_peak(device.name);
  const kernels::DeviceProperties now = properties_of(Device::cuda);
  fmt::print("{}: {:.1f} tokens/s, step {:.2f} ms, MFU {}, peak memory {:.1f} GiB of tensors, {:.1f} GiB in use\n",
             preset, rate, seconds * 1e3, peak > 0 ? fmt::format("{:.1f} %", 100 * rate * flops / peak) : "n/a",
             static_cast<double>(Allocator::of(Device::cuda).statistics().peak) * 0x1p-30,
             static_cast<double>(now.memory - now.free_memory) * 0x1p-30);
  std::fflush(stdout);
  print_shares(work);
  std::fflush(stdout);
}

int run(const std::vector<std::string>& arguments) {
  const std::string mode = arguments.empty() ? "speed" : arguments[0];
  if (mode == "speed") {
    std::vector<std::string> presets(arguments.begin() + (arguments.empty() ? 0 : 1), arguments.end());
    if (presets.empty()) presets = {"palm-125m", "palm-350m", "palm-1b"};
    for (const std::string& preset : presets) measure(preset);
    return 0;
  }
  if ((mode != "losses" && mode != "export") || arguments.size() != 3) {
    fmt::print(stderr, "usage: train_gpu_benchmark speed [PRESET ...] | losses STEPS PRESET | export FOLDER PRESET\n");
    return 2;
  }
  Work work(recipe_of(arguments[2]), Prefixes::none, Device::cuda, DType::bf16);
  if (mode == "export") {
    work.write(arguments[1]);
    return 0;
  }
  const Index steps = std::stoll(arguments[1]);
  for (Index i = 0; i < steps; ++i) {
    fmt::print("{:.9g}\n", work.run());
    std::fflush(stdout);
  }
  return 0;
}

}  // namespace
}  // namespace unfurl::train

int main(int count, char** arguments) {
  try {
    if (!unfurl::benchmarks::gpu_is_here()) return unfurl::benchmarks::kNoGpu;
    return unfurl::train::run({arguments + 1, arguments + count});
  } catch (const unfurl::UserError& error) {
    fmt::print(stderr, "error: {}\n", error.what());
    return 2;
  } catch (const std::exception& error) {
    fmt::print(stderr, "error: {}\n", error.what());
    return 1;
  }
}
