// Each kernel in the shapes of palm-25m (width 384, 6 heads of 64 with one key and value head, feed-forward 1536,
// vocabulary 32,000) and palm-tiny, with the share of this machine's measured ceiling. Needs an idle machine:
//   build/cpu/kernels_benchmark --benchmark_repetitions=5 --benchmark_report_aggregates_only
#include <benchmark/benchmark.h>

#include <cstdio>

#include "benchmarks/ceilings.h"
#include "kernels/cross_entropy.h"
#include "kernels/sampling.h"

namespace unfurl::benchmarks {
namespace {

using kernels::CpuQueue;
using kernels::ThreadPool;

enum Form : std::int64_t { kForward, kGradientOfInput, kGradientOfWeight };

/// Figures of a kernel that does `flops` and moves `bytes` in each iteration; either may be 0.
void report(benchmark::State& state, double flops, double bytes, double byte_ceiling) {
  const auto iterations = static_cast<double>(state.iterations());
  const auto rate = [&](double amount) { return benchmark::Counter(amount * iterations, benchmark::Counter::kIsRate); };
  if (flops > 0) {
    state.counters["GFLOP/s"] = rate(flops / 1e9);
    state.counters["%gemm_peak"] = rate(100 * flops / Ceilings::of_this_machine().gemm);
  }
  if (bytes > 0) {
    state.counters["GB/s"] = rate(bytes / 1e9);
    state.counters["%bandwidth"] = rate(100 * bytes / byte_ceiling);
  }
}

/// A linear layer of `in` to `out` on `rows` tokens: y = x W^T, dx = dy W, or dW += dy^T x.
void matmul(benchmark::State& state) {
  const Index form = state.range(0), rows = state.range(1), out = state.range(2), in = state.range(3);
  auto x = tests::normal(rows * in, 1), w = tests::normal(out * in, 2), y = tests::normal(rows * out, 3);
  const CpuQueue queue(ThreadPool::global());
  for (auto _ : state) {
    if (form == kForward) {
      kernels::matmul<CpuQueue, float>(queue, {y.data(), out}, {x.data(), in}, false, {w.data(), in}, true, rows, out,
                                       in, false);
    } else if (form == kGradientOfInput) {
      kernels::matmul<CpuQueue, float>(queue, {x.data(), in}, {y.data(), out}, false, {w.data(), in}, false, rows, in,
                                       out, false);
    } else {
      kernels::matmul<CpuQueue, float>(queue, {w.data(), in}, {y.data(), out}, true, {x.data(), in}, false, out, in,
                                       rows, true);
    }
  }
  const bool few = rows <= 8;
  report(state, 2.0 * static_cast<double>(rows * out * in), few ? 4.0 * static_cast<double>(out * in) : 0,
         Ceilings::of_this_machine().read);
}
BENCHMARK(matmul)
    ->ArgNames({"form", "rows", "out", "in"})
    ->ArgsProduct({{kForward, kGradientOfInput, kGradientOfWeight}, {1024}, {3584}, {384}})        // QKV + gate + up
    ->ArgsProduct({{kForward, kGradientOfInput, kGradientOfWeight}, {1024}, {384}, {1920}})        // output + down
    ->ArgsProduct({{kForward, kGradientOfInput, kGradientOfWeight}, {256, 1024}, {32000}, {384}})  // head
    ->ArgsProduct({{kForward, kGradientOfInput, kGradientOfWeight}, {1024}, {1280}, {128}})        // palm-tiny
    ->ArgsProduct({{kForward, kGradientOfInput, kGradientOfWeight}, {1024}, {128}, {640}})
    ->ArgsProduct({{kForward}, {1, 4, 8}, {3584, 32000}, {384}})  // decoding
    ->ArgsProduct({{kForward}, {1, 4, 8}, {384}, {1920}})
    ->UseRealTime()
    ->Unit(benchmark::kMicrosecond);

void cross_entropy(benchmark::State& state) {
  const bool gradient = state.range(0) != 0;
  const Index rows = 256, cols = state.range(1);
  const auto logits = tests::normal(rows * cols, 1, 3);
  const auto targets = tests::integers(rows, static_cast<std::int32_t>(cols), 2);
  const std::vector<float> weights(rows, 1);
  std::vector<float> work = logits, losses(rows);
  const CpuQueue queue(ThreadPool::global());
  for (auto _ : state) {
    // Gradients of gradients cost the same as gradients of logits.
    kernels::cross_entropy<CpuQueue, float>(queue, losses.data(), {work.data(), cols}, targets.data(), weights.data(),
                                            gradient, rows, cols);
  }
  report(state, 0, 4.0 * static_cast<double>(rows * cols) * (gradient ? 2 : 1),
         gradient ? Ceilings::of_this_machine().copy : Ceilings::of_this_machine().read);
}
BENCHMARK(cross_entropy)
    ->ArgNames({"gradient", "cols"})
    ->ArgsProduct({{0, 1}, {4096, 32000}})
    ->UseRealTime()
    ->Unit(benchmark::kMicrosecond);

void sample(benchmark::State& state) {
  const Index rows = 4, cols = 32000;
  kernels::Sampling config;
  config.top_k = state.range(0);
  config.top_p = static_cast<float>(state.range(1)) / 100;
  const auto logits = tests::normal(rows * cols, 1, 3);
  const std::vector<float> uniforms = {0.1f, 0.4f, 0.7f, 0.95f};
  std::vector<std::int32_t> tokens(rows);
  std::vector<float> log_probability(rows);
  const CpuQueue queue(ThreadPool::global());
  for (auto _ : state) {
    kernels::sample<CpuQueue, float>(queue, tokens.data(), log_probability.data(), {logits.data(), cols},
                                     uniforms.data(), config, rows, cols);
  }
  report(state, 0, 4.0 * static_cast<double>(rows * cols), Ceilings::of_this_machine().read);
}
BENCHMARK(sample)
    ->ArgNames({"top_k", "top_p%"})
    ->ArgsProduct({{0, 40}, {100, 95}})
    ->UseRealTime()
    ->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace unfurl::benchmarks

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  const auto& ceilings = unfurl::benchmarks::Ceilings::of_this_machine();
  std::fprintf(stderr, "%d threads; ceilings: %.0f GFLOP/s (BLIS), read %.1f GB/s, copy %.1f GB/s\n",
               unfurl::kernels::ThreadPool::global().threads(), ceilings.gemm / 1e9, ceilings.read / 1e9,
               ceilings.copy / 1e9);
  benchmark::RunSpecifiedBenchmarks();
}
