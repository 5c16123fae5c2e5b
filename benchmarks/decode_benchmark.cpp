// Decoding speed of the model presets on this machine: 1, 4 and 8 rows, each step with its draw, against the floor, the
// time in which memory can give all weights once.
//
//   build/cpu/decode_benchmark [PRESET ...]        default: palm-tiny palm-25m
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <exception>
#include <string>
#include <vector>

#include "benchmarks/ceilings.h"
#include "kernels/sampling.h"
#include "tests/support/random.h"
#include "train/model/decoder.h"
#include "train/model/session.h"
#include "train/recipe/recipe.h"

namespace unfurl::train {
namespace {

constexpr Index kShared = 24, kSteps = 64;
constexpr int kRounds = 7;

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + kRounds / 2, values.end());
  return values[kRounds / 2];
}

void measure(const std::string& preset, double read_bandwidth) {
  ModelConfig config = parse_recipe("model: {preset: " + preset + "}", preset).model;
  if (config.vocab_size == 0) config.vocab_size = preset == "palm-tiny" ? 4096 : 32000;
  Decoder decoder(config, DType::f32, Device::cpu, false);
  decoder.initialise(1);
  DecoderSession session(decoder);
  // Bytes that a step reads: all of the weights, an untied embedding's few rows left out.
  const Index unread = config.tied ? 0 : decoder.embedding().numel();
  const double weights = 4.0 * static_cast<double>(decoder.parameters().count() - unread);
  const double floor = weights / read_bandwidth;
  fmt::print("{}: {:.1f} MB of weights, floor {:.3f} ms a step\n", preset, weights * 1e-6, floor * 1e3);

  const kernels::CpuQueue queue(kernels::ThreadPool::global());
  const kernels::Sampling sampling{.temperature = 0.8f, .top_k = 0, .top_p = 0.95f, .min_p = 0};
  const auto vocab = static_cast<std::int32_t>(config.vocab_size);
  std::vector<double> prefills;
  for (int round = 0; round < kRounds; ++round) {
    const auto start = std::chrono::steady_clock::now();
    session.prefill(tests::integers(kShared, vocab, static_cast<std::uint64_t>(round)), kShared);
    prefills.push_back(seconds_since(start));
  }
  fmt::print("  prefill of {} tokens {:.3f} ms\n", kShared, median(prefills) * 1e3);
  for (const Index rows : {1, 4, 8}) {
    std::vector<double> steps, draws;
    for (int round = 0; round < kRounds; ++round) {
      session.fork(rows, kSteps + 1);
      std::vector<std::int32_t> tokens = tests::integers(rows, vocab, static_cast<std::uint64_t>(round));
      const std::vector<float> uniforms(static_cast<std::size_t>(rows), 0.7f);
      double stepping = 0, drawing = 0;
      for (Index i = 0; i < kSteps; ++i) {
        auto start = std::chrono::steady_clock::now();
        session.step(tokens);
        stepping += seconds_since(start);
        start = std::chrono::steady_clock::now();
        kernels::sample<kernels::CpuQueue, float>(queue, tokens.data(), nullptr, session.logits(), uniforms.data(),
                                                  sampling, rows, config.vocab_size);
        drawing += seconds_since(start);
      }
      steps.push_back(stepping / kSteps);
      draws.push_back(drawing / kSteps);
    }
    const double step = median(steps), draw = median(draws);
    fmt::print("  {} row{}  {:7.0f} tokens/s   step {:.3f} ms ({:.0f} % of the floor's speed), draw {:.3f} ms\n", rows,
               rows == 1 ? " " : "s", static_cast<double>(rows) / (step + draw), step * 1e3, 100 * floor / step,
               draw * 1e3);
  }
}

}  // namespace
}  // namespace unfurl::train

int main(int count, char** arguments) {
  try {
    std::vector<std::string> presets(arguments + 1, arguments + count);
    if (presets.empty()) presets = {"palm-tiny", "palm-25m"};
    const double read = unfurl::benchmarks::Ceilings::of_this_machine().read;
    fmt::print("{} threads read {:.1f} GB/s from memory\n", unfurl::kernels::ThreadPool::global().threads(),
               read * 1e-9);
    for (const std::string& preset : presets) unfurl::train::measure(preset, read);
  } catch (const std::exception& error) {
    fmt::print(stderr, "error: {}\n", error.what());
    return 1;
  }
  return 0;
}
