// Training speed of a recipe's model on this machine, on batches that a peer can be given too.
//
//   train_benchmark export FOLDER [RECIPE]         FOLDER/weights.safetensors and FOLDER/work.json: what a peer needs
//   train_benchmark losses STEPS [RECIPE]          the loss of each step, one a line
//   train_benchmark speed STEPS [RECIPE]           tokens/s over STEPS steps after two more to warm up, and tokens per
//                                                second of processor time
//   train_benchmark decode STEPS [RECIPE]          the same of greedy decoding, batch 1, after a prefix of 24 tokens,
//   train_benchmark decode-f32 STEPS [RECIPE]      with weights of 8 bits, as `unfurl expand` has them, or of 32
//   train_benchmark profile STEPS [RECIPE]         where their time goes, by operation, and the share of matrix
//   products
//
// Documents are as long as the recipe's context, so that nobody loses time to padding; their tokens follow Zipf's law,
// and a prefix of 8 to 39 tokens sees both ways and is not predicted. RECIPE defaults to benchmarks/train_cpu.yaml.
#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "benchmarks/train_work.h"
#include "core/files.h"
#include "core/json.h"
#include "core/trace.h"
#include "kernels/thread_pool.h"
#include "train/model/session.h"

namespace unfurl::train {
namespace {

constexpr Index kWarmUp = 2, kPrefix = 24;

/// Calls body() and prints tokens/s, and tokens per second of processor time.
template <class Body>
void print_rates(Index tokens, const Body& body) {
  const auto start = std::chrono::steady_clock::now();
  const std::clock_t used = std::clock();
  body();
  const auto count = static_cast<double>(tokens);
  fmt::print("{:.1f} {:.1f}\n", count / seconds_since(start),
             count * CLOCKS_PER_SEC / static_cast<double>(std::clock() - used));
}

void decode(Work& work, Index steps, DecodePrecision precision) {
  DecoderSession session(work.decoder(), precision);
  const std::vector<std::int32_t> prefix = work.first_tokens(kPrefix);
  session.prefill(prefix, kPrefix);
  const auto greedy = [&] {
    session.fork(1, steps);
    std::int32_t token = prefix.back();
    for (Index i = 0; i < steps; ++i) {
      session.step({&token, 1});
      const float* logits = session.logits().data;
      token = static_cast<std::int32_t>(std::max_element(logits, logits + session.vocab_size()) - logits);
    }
  };
  greedy();
  print_rates(steps, greedy);
}

bool is_product(const std::string& name) {
  return name.starts_with("linear") || name == "head: logits" || name == "head: dhidden" || name == "head: dweight";
}

void profile(Work& work, Index steps) {
  const auto path = std::filesystem::temp_directory_path() / fmt::format("unfurl-trace-{}.json", ::getpid());
  rusage before{}, after{};
  getrusage(RUSAGE_SELF, &before);
  Trace::start();
  const auto start = std::chrono::steady_clock::now();
  for (Index i = 0; i < steps; ++i) work.run();
  const double seconds = seconds_since(start);
  Trace::write(path);
  getrusage(RUSAGE_SELF, &after);
  const auto by_name = own_seconds(Json::parse(read_file(path)));
  std::filesystem::remove(path);
  std::vector<std::pair<double, std::string>> rows;
  double products = 0;
  for (const auto& [name, own] : by_name) {
    rows.emplace_back(own, name);
    if (is_product(name)) products += own;
  }
  std::sort(rows.rbegin(), rows.rend());
  for (const auto& [own, name] : rows) {
    fmt::print("{:6.2f} % {:9.3f} ms  {}\n", 100 * own / seconds, 1e3 * own / static_cast<double>(steps), name);
  }
  fmt::print("gemm_share {:.1f} %, step {:.1f} ms, page faults a step {}\n", 100 * products / seconds,
             1e3 * seconds / static_cast<double>(steps), (after.ru_minflt - before.ru_minflt) / steps);
}

int run(const std::vector<std::string>& arguments) {
  if (arguments.size() < 2 || arguments.size() > 3) {
    fmt::print(
        stderr,
        "usage: train_benchmark (export FOLDER | losses N | speed N | decode N | decode-f32 N | profile N) [RECIPE]\n");
    return 2;
  }
  const std::string& mode = arguments[0];
  Work work(load_recipe(arguments.size() == 3 ? arguments[2] : "benchmarks/train_cpu.yaml"), Prefixes::some);
  if (mode == "export") {
    work.write(arguments[1]);
    return 0;
  }
  const Index steps = std::stoll(arguments[1]);
  if (mode == "losses") {
    for (Index i = 0; i < steps; ++i) fmt::print("{:.9g}\n", work.run());
    return 0;
  }
  if (mode == "decode" || mode == "decode-f32") {
    decode(work, steps, mode == "decode" ? DecodePrecision::int8 : DecodePrecision::f32);
    return 0;
  }
  for (Index i = 0; i < kWarmUp; ++i) work.run();
  if (mode == "profile") {
    profile(work, steps);
    return 0;
  }
  require(mode == "speed", "train_benchmark: unknown mode \"{}\"", mode);
  print_rates(steps * work.tokens(), [&] {
    for (Index i = 0; i < steps; ++i) work.run();
  });
  return 0;
}

}  // namespace
}  // namespace unfurl::train

int main(int count, char** arguments) {
  try {
    return unfurl::train::run(std::vector<std::string>(arguments + 1, arguments + count));
  } catch (const std::exception& error) {
    fmt::print(stderr, "error: {}\n", error.what());
    return 1;
  }
}
