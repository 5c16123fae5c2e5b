// Training on this machine's GPU: steps of 32,768 tokens, documents of 256 without padding, bf16, AdamW.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <map>
#include <string>
#include <vector>

#include "benchmarks/gpu.h"
#include "benchmarks/train_work.h"
#include "core/autograd.h"
#include "core/device.h"
#include "core/trace.h"
#include "train/trainer/inputs.h"
#include "train/trainer/plan.h"

namespace unfurl::train {
namespace {

constexpr const char* kUsage =
    R"(Training on this machine's GPU: steps of 32,768 tokens, documents of 256 without padding, bf16, AdamW.

  build/cuda/train_gpu_benchmark speed [PRESET ...]        tokens/s over 30 steps after 10, by CUDA events; share of
                                                           the dense peak; memory; share of each class of kernels
  build/cuda/train_gpu_benchmark losses STEPS PRESET       the loss of each step, one a line
  build/cuda/train_gpu_benchmark export FOLDER PRESET      weights.safetensors and work.json: what a peer needs

With attention=cudnn behind the rest, cuDNN computes attention. PRESET: palm-1b, palm-350m, palm-125m (default: all),
or palm-tiny. Exit code 2 where there is no GPU. build/host-cuda/train_gpu_benchmark --simulate ...: the same on the
CPU in small (palm-tiny), without times.
)";

using benchmarks::kDevice;
using benchmarks::kSimulated;
using benchmarks::Queue;

constexpr Index kWarmUp = kSimulated ? 2 : 10, kTimed = kSimulated ? 2 : 30, kProfiled = kSimulated ? 1 : 5;
constexpr Index kVocabulary = kSimulated ? 512 : 32000, kContext = kSimulated ? 48 : 256;
constexpr Index kDocuments = kSimulated ? 3 : 128;  // of a step

Recipe recipe_of(const std::string& preset, const std::string& attention) {
  return parse_recipe(fmt::format(R"(
attention: {}
model: {{preset: {}, vocab_size: {}, context: {}, dropout: 0}}
batch: {{slots: 1, micro_batches: 1, tokens: {}, documents: {}}}
optimizer: {{name: adamw, learning_rate: 3.0e-4, beta1: 0.9, beta2: 0.95, eps: 1.0e-8, weight_decay: 0.1, clip_norm: 1}}
schedule: {{name: constant, warmup_steps: 10}}
train: {{steps: 1000}}
)",
                                  attention, preset, kVocabulary, kContext, kDocuments * kContext, kDocuments),
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
  ModelInputs inputs = model_inputs(work.first_batch(), 1e-4, work.decoder().embedding().dtype(), kDevice);
  if (work.recipe().attention == AttentionKind::cudnn) inputs.cudnn_longest = work.recipe().model.context;
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
  Trace::start([] { synchronize(kDevice); });
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
  if (kSimulated) {
    fmt::print("  simulated: {} classes of kernels\n", rows.size());
    return;
  }
  fmt::print("  each operation alone, with its launch, {:.2f} ms in all:\n", 1e3 * all / kProfiled);
  for (const auto& [seconds, name] : rows) {
    fmt::print("  {:5.1f} %  {:9.3f} ms  {}\n", 100 * seconds / all, 1e3 * seconds / kProfiled, name);
  }
}

void measure(const std::string& preset, const std::string& attention) {
  Work work(recipe_of(preset, attention), Prefixes::none, kDevice, DType::bf16);
  work.tune();
  const auto& queue = device_queue<Queue>();
  double loss = 0;
  // Two steps are under way, as in the trainer: the GPU never waits for the host.
  const auto run = [&](Index steps) {
    work.start();
    for (Index i = 1; i < steps; ++i) {
      work.start();
      work.finish();
    }
    loss = work.finish();
  };
  run(kWarmUp);
  Allocator::of(kDevice).reset_peak();
  const auto before = queue.record();
  run(kTimed);
  const auto after = queue.record();
  if (kSimulated) {
    fmt::print("{}: simulated, {} steps, loss {:.4f}\n", preset, kWarmUp + kTimed, loss);
    print_shares(work);
    return;
  }
  const kernels::DeviceProperties device = properties_of(kDevice);
  const double seconds = Queue::seconds_between(before, after) / kTimed;
  const double rate = static_cast<double>(work.tokens()) / seconds;
  const double flops = flops_per_token(work.recipe().model, work.decoder().parameters().count());
  const double peak = dense_peak(device.name);
  fmt::print("{}: {:.1f} tokens/s, step {:.2f} ms, MFU {}, peak memory {:.1f} GiB of tensors, {:.1f} GiB in use\n",
             preset, rate, seconds * 1e3, peak > 0 ? fmt::format("{:.1f} %", 100 * rate * flops / peak) : "n/a",
             static_cast<double>(Allocator::of(kDevice).statistics().peak) * 0x1p-30,
             static_cast<double>(device.memory - Queue().free_memory()) * 0x1p-30);
  std::fflush(stdout);
  print_shares(work);
  std::fflush(stdout);
}

int run(std::vector<std::string> arguments) {
  const std::string attention = std::erase(arguments, "attention=cudnn") > 0 ? "cudnn" : "own";
  const std::string mode = arguments.empty() ? "speed" : arguments[0];
  if (mode == "speed") {
    if (!arguments.empty()) arguments.erase(arguments.begin());
    for (const std::string& preset : benchmarks::presets_or_all(std::move(arguments))) measure(preset, attention);
    return 0;
  }
  if ((mode != "losses" && mode != "export") || arguments.size() != 3) {
    user_error(
        "usage: train_gpu_benchmark speed [PRESET ...] | losses STEPS PRESET | export FOLDER PRESET "
        "[attention=cudnn]");
  }
  int steps = 0;
  const std::string& given = arguments[1];
  const auto [end, error] = std::from_chars(given.data(), given.data() + given.size(), steps);
  if (mode == "losses" && (error != std::errc() || end != given.data() + given.size() || steps < 1)) {
    user_error("losses: '{}' is no number of steps", given);
  }
  Work work(recipe_of(arguments[2], attention), Prefixes::none, kDevice, DType::bf16);
  if (mode == "export") {
    work.write(given);
    return 0;
  }
  work.tune();
  for (int i = 0; i < steps; ++i) {
    fmt::print("{:.9g}\n", work.run());
    std::fflush(stdout);
  }
  return 0;
}

}  // namespace
}  // namespace unfurl::train

int main(int count, char** arguments) {
  return unfurl::benchmarks::run_benchmark(count, arguments, unfurl::train::kUsage, unfurl::train::run);
}
