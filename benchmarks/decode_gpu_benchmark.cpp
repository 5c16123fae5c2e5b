// Decoding on this machine's GPU, as `unfurl expand` does it: 1, 4 and 8 rows draw a token each by one launch of a CUDA
// graph, against the time in which memory can give all weights once.
#include <fmt/format.h>

#include <cstdio>
#include <string>
#include <vector>

#include "benchmarks/gpu.h"
#include "tests/support/random.h"
#include "train/model/decoder.h"
#include "train/model/device_session.h"

namespace unfurl::benchmarks {
namespace {

constexpr const char* kUsage =
    R"(Decoding on this machine's GPU, as `unfurl expand` does it: 1, 4 and 8 rows draw a token each by one launch of a CUDA
graph, against the time in which memory can give all weights once.

  build/cuda/decode_gpu_benchmark [PRESET ...]     default: palm-1b palm-350m palm-125m
  build/host-cuda/decode_gpu_benchmark --simulate  the same once on the CPU, in small, without times

bf16, random weights; all rows share 24 tokens and draw 96 of their own, the last 64 of which are timed by CUDA
events while the host reads tokens two draws behind. Exit code 2 where there is no GPU.
)";

constexpr Index kShared = 24, kUntimed = kSimulated ? 4 : 32, kTimed = kSimulated ? 4 : 64, kAhead = 2;
constexpr int kRounds = kSimulated ? 1 : 7;

/// Rows that go on and on: any piece may follow any.
train::Follows anything(Index vocab_size) {
  return {vocab_size, std::vector<std::uint8_t>(static_cast<std::size_t>(vocab_size))};
}

/// Seconds a token, of each row one; simulated: 0.
double seconds_a_token(train::DeviceSession& session, const train::Follows& follows, Index rows, std::uint64_t seed) {
  const Queue& queue = device_queue<Queue>();
  session.fork(rows, kUntimed + kTimed);
  const std::vector<train::DrawStart> starts(static_cast<std::size_t>(rows));
  session.begin_draws(follows, {.temperature = 0.8f, .top_k = 0, .top_p = 0.95f, .min_p = 0}, seed, starts);
  const auto draw = [&](Index count) {
    for (Index i = 0; i < count; ++i) {
      session.queue_draw();
      for (const train::Drawn& drawn : session.take_draw())
        require(drawn.token >= 0, "nothing was drawn: {}", drawn.token);
    }
  };
  for (Index i = 0; i < kAhead; ++i) session.queue_draw();
  draw(kUntimed - kAhead);
  const Queue::Event before = queue.record();
  draw(kTimed);
  const Queue::Event after = queue.record();
  queue.synchronize();
  return kSimulated ? 0 : Queue::seconds_between(before, after) / kTimed;
}

void measure(const Gpu::Ceilings& ceilings, const std::string& preset) {
  const train::ModelConfig config = model_of(preset);
  train::Decoder decoder(config, DType::bf16, kDevice, false);
  decoder.initialise(1);
  train::DeviceSession session(decoder);
  session.prefill(tests::integers(kShared, static_cast<std::int32_t>(config.vocab_size), 1), kShared);
  const train::Follows follows = anything(config.vocab_size);
  // Bytes that a token reads: all of the weights, an untied embedding's few rows left out.
  const Index unread = config.tied ? 0 : decoder.embedding().numel();
  const double weights = 2.0 * static_cast<double>(decoder.parameters().count() - unread);
  for (const Index rows : {1, 4, 8}) {
    seconds_a_token(session, follows, rows, 1);  // makes the graph
    std::vector<double> seconds;
    for (int round = 0; round < kRounds; ++round) {
      seconds.push_back(seconds_a_token(session, follows, rows, static_cast<std::uint64_t>(round)));
    }
    if (kSimulated) {
      fmt::print("{} batch {}: simulated, {} tokens\n", preset, rows, rows * (kUntimed + kTimed));
    } else {
      const double time = median(seconds), floor = weights / ceilings.copy;
      fmt::print("{} batch {}: {:.3f} ms a token, {:.0f} tokens/s, floor {:.3f} ms ({:.0f} % of its speed)\n", preset,
                 rows, time * 1e3, static_cast<double>(rows) / time, floor * 1e3, 100 * floor / time);
    }
    std::fflush(stdout);
  }
}

int run(std::vector<std::string> asked) {
  const std::vector<std::string> presets = presets_or_all(std::move(asked));
  Gpu::Ceilings ceilings;
  {
    Gpu gpu;
    ceilings = gpu.measure_ceilings();
  }
  print_heading(ceilings);
  if (!kSimulated) fmt::print("floor: the weights' bytes at the speed of the copy\n");
  for (const std::string& preset : presets) measure(ceilings, preset);
  return 0;
}

}  // namespace
}  // namespace unfurl::benchmarks

int main(int count, char** arguments) {
  return unfurl::benchmarks::run_benchmark(count, arguments, unfurl::benchmarks::kUsage, unfurl::benchmarks::run);
}
