// What the benchmarks of a GPU share: its memory full of random numbers, times by CUDA events, and what the GPU can do
// at most, measured on it at the start.
//
// A program built without CUDA but with its kernels executed on the CPU runs the same work once, in small, where it is
// told to with --simulate: so that a machine without a GPU finds what is wrong in a benchmark. Nothing is timed then,
// and every line says `simulated`.
#pragma once
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "core/device.h"
#include "core/error.h"
#include "kernels/device/runtime.h"
#include "kernels/matmul.h"
#include "kernels/matmul_choices.h"
#include "tests/support/random.h"
#include "train/recipe/recipe.h"

namespace unfurl::benchmarks {

#if defined(UNFURL_CUDA)
using Queue = kernels::CudaQueue;
inline constexpr bool kSimulated = false;
inline constexpr Device kDevice = Device::cuda;
#else
using Queue = kernels::HostCudaQueue;
inline constexpr bool kSimulated = true;
inline constexpr Device kDevice = Device::host_cuda;
#endif

/// What a main() of a benchmark does: body(arguments) gives the exit code; --help prints `usage`. Without --simulate in
/// a program that can only simulate, with it in one that cannot, and without a GPU, it is one line and exit code 2.
inline int run_benchmark(int count, char** all, const char* usage,
                         const std::function<int(std::vector<std::string>)>& body) {
  try {
    std::vector<std::string> arguments(all + 1, all + count);
    if (std::erase(arguments, "--help") + std::erase(arguments, "-h") > 0) {
      fmt::print("{}", usage);
      return 0;
    }
    const bool simulate = std::erase(arguments, "--simulate") > 0;
    if (simulate && !kSimulated)
      user_error("--simulate needs the build of `cmake --preset host-cuda`; nothing was run");
    if (!simulate) {
      const std::string why = why_unusable(Device::cuda);
      if (!why.empty()) user_error("{}; nothing was run", why);
    }
    return body(std::move(arguments));
  } catch (const UserError& error) {
    fmt::print(stderr, "error: {}\n", error.what());
    return 2;
  } catch (const std::exception& error) {
    fmt::print(stderr, "error: {}\n", error.what());
    return 1;
  }
}

inline train::ModelConfig model_of(const std::string& preset) {
  train::ModelConfig model = train::parse_recipe("model: {preset: " + preset + "}", "PRESET").model;
  if (model.vocab_size == 0) model.vocab_size = kSimulated ? 1000 : 32000;
  return model;
}

/// Presets that a benchmark measures, largest first: a part whose time is up has then measured the most important.
inline std::vector<std::string> presets_or_all(std::vector<std::string> presets) {
  for (const std::string& preset : presets) model_of(preset);  // a mistake is told before anything is measured
  if (!presets.empty()) return presets;
  if (kSimulated) return {"palm-tiny"};
  return {"palm-1b", "palm-350m", "palm-125m"};
}

/// The algorithms that were chosen for products before, again at its end; none in between.
class ChoicesScope {
 public:
  ChoicesScope() {
#if defined(UNFURL_CUDA)
    before_ = kernels::matmul_choices();
    kernels::set_matmul_choices({});
#endif
  }
  ~ChoicesScope() {
#if defined(UNFURL_CUDA)
    kernels::set_matmul_choices(before_);
#endif
  }
  ChoicesScope(const ChoicesScope&) = delete;
  ChoicesScope& operator=(const ChoicesScope&) = delete;

 private:
  std::vector<kernels::MatmulChoice> before_;
};

inline double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

class Gpu {
 public:
  Gpu() : flushed_(kSimulated ? nullptr : queue_.allocate(kFlush)) {}
  ~Gpu() {
    clear();
    queue_.free(flushed_);
  }
  Gpu(const Gpu&) = delete;
  Gpu& operator=(const Gpu&) = delete;

  const Queue& queue() const { return queue_; }

  /// Memory of the GPU until clear().
  template <class T>
  T* empty(Index count) {
    memory_.push_back(queue_.allocate(static_cast<std::size_t>(count) * sizeof(T)));
    return static_cast<T*>(memory_.back());
  }
  template <class T>
  T* zeros(Index count) {
    T* out = empty<T>(count);
    queue_.fill(out, 0, static_cast<std::size_t>(count) * sizeof(T));
    return out;
  }
  /// Normal numbers, which repeat after four millions (simulated: 65,536); each array begins elsewhere among them.
  template <class T>
  T* random(Index count) {
    T* out = empty<T>(count);
    randomise(out, count);
    return out;
  }
  template <class T>
  void randomise(T* out, Index count) {
    static const T* const pool = upload_forever(tests::normal<T>(kPool, sizeof(T)));
    Index from = begin_;
    begin_ = (begin_ + kPool / 13 * 5) % kPool;
    for (Index at = 0; at < count;) {
      const Index part = std::min(kPool - from, count - at);
      queue_.copy(out + at, pool + from, static_cast<std::size_t>(part) * sizeof(T));
      at += part;
      from = 0;
    }
  }
  template <class T>
  T* upload(const std::vector<T>& values) {
    T* out = empty<T>(static_cast<Index>(values.size()));
    queue_.copy(out, values.data(), values.size() * sizeof(T));
    queue_.synchronize();
    return out;
  }
  void clear() {
    for (void* memory : memory_) queue_.free(memory);
    memory_.clear();
  }

  /// The median seconds of body() over `runs` runs after three more. Before each, prepare() runs and the L2 cache is
  /// filled with other data; neither is timed, and while they run the host is done with giving the GPU its work.
  /// Simulated: body() runs once, and the answer is 0.
  double seconds(const std::function<void()>& body, const std::function<void()>& prepare = {}, int runs = 21) const {
    if (kSimulated) {
      if (prepare) prepare();
      body();
      queue_.synchronize();
      return 0;
    }
    std::vector<std::pair<Queue::Event, Queue::Event>> events;
    for (int i = 0; i < runs + 3; ++i) {
      if (prepare) prepare();
      queue_.fill(flushed_, static_cast<unsigned char>(i), kFlush);
      const Queue::Event before = queue_.record();
      body();
      const Queue::Event after = queue_.record();
      if (i >= 3) events.emplace_back(before, after);
    }
    queue_.synchronize();
    std::vector<double> seconds;
    seconds.reserve(events.size());
    for (const auto& [before, after] : events) seconds.push_back(Queue::seconds_between(before, after));
    return median(std::move(seconds));
  }

  /// The fastest of cuBLASLt's algorithms is what the product runs from now on.
  template <class T, class C>
  void choose([[maybe_unused]] kernels::Matrix<C> c, [[maybe_unused]] kernels::Matrix<const T> a,
              [[maybe_unused]] bool transpose_a, [[maybe_unused]] kernels::Matrix<const T> b,
              [[maybe_unused]] bool transpose_b, [[maybe_unused]] Index m, [[maybe_unused]] Index n,
              [[maybe_unused]] Index k, [[maybe_unused]] bool accumulate) const {
#if defined(UNFURL_CUDA)
    kernels::choose_matmul<T, C>(queue_, c, a, transpose_a, b, transpose_b, m, n, k, accumulate);
#endif
  }

  struct Ceilings {   // all 0 where it is simulated
    double copy = 0;  // bytes/s read plus bytes/s written
    double gemm = 0;  // FLOP/s, bf16 with fp32 sums; 0 without cuBLASLt
    std::string no_gemm;
  };
  Ceilings measure_ceilings() {
    Ceilings out;
    {
      constexpr Index kBytes = Index{1} << (kSimulated ? 16 : 30);
      auto* from = random<float>(kBytes / 4);
      auto* to = empty<float>(kBytes / 4);
      const double time = seconds([&] { queue_.copy(to, from, kBytes); });
      if (time > 0) out.copy = 2.0 * kBytes / time;
      clear();
    }
    try {
      constexpr Index kSide = kSimulated ? 64 : 8192;
      const kernels::Matrix<const bf16> a{random<bf16>(kSide * kSide), kSide}, b{random<bf16>(kSide * kSide), kSide};
      const kernels::Matrix<bf16> c{empty<bf16>(kSide * kSide), kSide};
      choose(c, a, false, b, true, kSide, kSide, kSide, false);
      const double time =
          seconds([&] { kernels::matmul(queue_, c, a, false, b, true, kSide, kSide, kSide, false); }, {}, 11);
      if (time > 0) out.gemm = 2.0 * kSide * kSide * kSide / time;
    } catch (const std::exception& error) {
      out.no_gemm = error.what();
    }
    clear();
    return out;
  }

 private:
  static constexpr std::size_t kFlush = std::size_t{256} << 20;  // bytes: several times any L2
  static constexpr Index kPool = Index{1} << (kSimulated ? 16 : 22);
  Index begin_ = 0;  // in the pool, of the next array

  template <class T>
  const T* upload_forever(const std::vector<T>& values) {
    void* out = queue_.allocate(values.size() * sizeof(T));
    queue_.copy(out, values.data(), values.size() * sizeof(T));
    queue_.synchronize();
    return static_cast<const T*>(out);
  }

  Queue queue_;
  void* flushed_;
  std::vector<void*> memory_;
};

/// What the figures below it were measured on.
inline void print_heading(const Gpu::Ceilings& ceilings) {
  if (kSimulated) {
    fmt::print("simulated: CUDA kernels executed on the CPU, in small; nothing is timed\n");
    return;
  }
  const kernels::DeviceProperties device = Queue::properties();
  std::string library = "no cuBLASLt";
#if defined(UNFURL_CUDA)
  if (ceilings.gemm > 0) library = fmt::format("cuBLASLt {}", kernels::cublaslt_version());
#endif
  fmt::print("{}, compute capability {}.{}, {} multiprocessors, {}\n", device.name, device.major, device.minor,
             device.multiprocessors, library);
  fmt::print("ceilings: copy {:.2f} TB/s, bf16 GEMM {}\n", ceilings.copy * 1e-12,
             ceilings.gemm > 0 ? fmt::format("{:.0f} TFLOP/s", ceilings.gemm * 1e-12) : "n/a: " + ceilings.no_gemm);
  std::fflush(stdout);
}

}  // namespace unfurl::benchmarks
