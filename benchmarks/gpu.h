// What the benchmarks of a GPU share: its memory full of random numbers, times by CUDA events, and what the GPU can do
// at most, measured on it at the start.
#pragma once
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <functional>
#include <vector>

#include "kernels/device/runtime.h"
#include "kernels/matmul.h"
#include "kernels/matmul_choices.h"
#include "tests/support/random.h"

namespace unfurl::benchmarks {

using kernels::CudaQueue;

/// The exit code of a benchmark that has nothing to run on.
inline constexpr int kNoGpu = 2;

/// Says so where there is no GPU.
inline bool gpu_is_here() {
  if (CudaQueue::device_count() > 0) return true;
  fmt::print(stderr,
             "no GPU can be used: there is none, or no driver, or one too old for CUDA 12.8; nothing was run\n");
  return false;
}

/// Dense bf16 products with fp32 sums, by the vendor's data sheets, FLOP/s; 0 where it is not known.
inline double dense_peak(const std::string& gpu) {
  struct Peak {
    const char* name;
    double tflops;
  };
  // The first that is part of the name counts.
  constexpr Peak kPeaks[] = {{"H100 PCIe", 756}, {"H100 NVL", 835}, {"H200 NVL", 835}, {"GH200", 989}, {"H100", 989},
                             {"H200", 989},      {"H800", 989},     {"A100", 312},     {"A800", 312}};
  for (const Peak& peak : kPeaks) {
    if (gpu.find(peak.name) != std::string::npos) return peak.tflops * 1e12;
  }
  return 0;
}

inline double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

class Gpu {
 public:
  Gpu() : flushed_(queue_.allocate(kFlush)) {}
  ~Gpu() {
    clear();
    queue_.free(flushed_);
  }
  Gpu(const Gpu&) = delete;
  Gpu& operator=(const Gpu&) = delete;

  const CudaQueue& queue() const { return queue_; }

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
  /// Normal numbers, which repeat after four millions.
  template <class T>
  T* random(Index count) {
    T* out = empty<T>(count);
    randomise(out, count);
    return out;
  }
  template <class T>
  void randomise(T* out, Index count) {
    static const T* const pool = upload_forever(tests::normal<T>(kPool, sizeof(T)));
    for (Index at = 0; at < count; at += kPool) {
      queue_.copy(out + at, pool, static_cast<std::size_t>(std::min(kPool, count - at)) * sizeof(T));
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
  double seconds(const std::function<void()>& body, const std::function<void()>& prepare = {}, int runs = 21) const {
    std::vector<std::pair<CudaQueue::Event, CudaQueue::Event>> events;
    for (int i = 0; i < runs + 3; ++i) {
      if (prepare) prepare();
      queue_.fill(flushed_, static_cast<unsigned char>(i), kFlush);
      const CudaQueue::Event before = queue_.record();
      body();
      const CudaQueue::Event after = queue_.record();
      if (i >= 3) events.emplace_back(before, after);
    }
    queue_.synchronize();
    std::vector<double> seconds;
    seconds.reserve(events.size());
    for (const auto& [before, after] : events) seconds.push_back(CudaQueue::seconds_between(before, after));
    return median(std::move(seconds));
  }

  struct Ceilings {
    double copy = 0;  // bytes/s read plus bytes/s written
    double gemm = 0;  // FLOP/s, bf16 with fp32 sums; 0 without cuBLASLt
    std::string no_gemm;
  };
  Ceilings measure_ceilings() {
    Ceilings out;
    {
      constexpr Index kBytes = Index{1} << 30;
      auto* from = random<float>(kBytes / 4);
      auto* to = empty<float>(kBytes / 4);
      out.copy = 2.0 * kBytes / seconds([&] { queue_.copy(to, from, kBytes); });
      clear();
    }
    try {
      constexpr Index kSide = 8192;
      const kernels::Matrix<const bf16> a{random<bf16>(kSide * kSide), kSide}, b{random<bf16>(kSide * kSide), kSide};
      const kernels::Matrix<bf16> c{empty<bf16>(kSide * kSide), kSide};
      kernels::choose_matmul(queue_, c, a, false, b, true, kSide, kSide, kSide, false);
      const double time =
          seconds([&] { kernels::matmul(queue_, c, a, false, b, true, kSide, kSide, kSide, false); }, {}, 11);
      out.gemm = 2.0 * kSide * kSide * kSide / time;
    } catch (const std::exception& error) {
      out.no_gemm = error.what();
    }
    clear();
    return out;
  }

 private:
  static constexpr std::size_t kFlush = std::size_t{256} << 20;  // bytes: several times any L2
  static constexpr Index kPool = Index{1} << 22;

  template <class T>
  const T* upload_forever(const std::vector<T>& values) {
    void* out = queue_.allocate(values.size() * sizeof(T));
    queue_.copy(out, values.data(), values.size() * sizeof(T));
    queue_.synchronize();
    return static_cast<const T*>(out);
  }

  CudaQueue queue_;
  void* flushed_;
  std::vector<void*> memory_;
};

}  // namespace unfurl::benchmarks
