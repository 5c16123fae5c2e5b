// The engine that executes CUDA kernels on the CPU: what is right runs right. planted_bugs.cu has what is wrong.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "kernels/device/reduce.h"
#include "kernels/device/vector.h"
#include "kernels/philox.h"
#include "tests/support/backends.h"

namespace unfurl::tests {
namespace {

using namespace kernels::device;
using kernels::HostCudaQueue;
namespace host = kernels::host;
namespace ptx = kernels::device::ptx;

const std::vector<unsigned> kBlockSizes = {1, 2, 31, 32, 33, 63, 64, 96, 100, 255, 256, 512, 1000, 1024};

template <class T>
std::vector<std::vector<T>> only(const std::vector<T>& result) {
  return {result};
}

/// The fault that launching gives.
template <class Body>
std::string fault_of(const Body& body) {
  try {
    body();
  } catch (const host::Fault& fault) {
    return fault.what();
  }
  return "none";
}

// Each round, thread t takes over what thread t + 1 held.
__global__ void rotate(int* out, int rounds) {
  UNFURL_SHARED(int, values, [1024]);
  const int t = static_cast<int>(threadIdx.x), n = static_cast<int>(blockDim.x);
  values[t] = t + 1000 * static_cast<int>(blockIdx.x);
  for (int i = 0; i < rounds; ++i) {
    __syncthreads();
    const int next = values[(t + 1) % n];
    __syncthreads();
    values[t] = next;
  }
  out[blockIdx.x * blockDim.x + threadIdx.x] = values[t];
}

__global__ void use_12_kib() {
  UNFURL_SHARED(int, values, [3072]);
  values[threadIdx.x] = 1;
}

__global__ void use_20_kib() {
  UNFURL_SHARED(int, values, [5120]);
  values[threadIdx.x] = 1;
}

TEST(HostEngine, SharedMemoryBeyondWhatNeedsNoOptInIsForKernelsThatAreOptedIn) {
  const auto with = [](const HostCudaQueue& queue, std::size_t dynamic) {
    return fault_of([&] { launch(queue, use_12_kib, dim3(1), dim3(32), dynamic); });
  };
  EXPECT_EQ(with(HostCudaQueue(), 32 << 10), "none");
  EXPECT_EQ(with(HostCudaQueue(), 40 << 10), "none") << "launch() opts in";
  EXPECT_EQ(with(HostCudaQueue(), 200 << 10), "none");
  const std::string both = fault_of([&] { launch(HostCudaQueue(), use_20_kib, dim3(1), dim3(32), 30 << 10); });
  EXPECT_NE(both.find("a block uses 51200 bytes of shared memory, at most 49152 without more"), std::string::npos)
      << both;
  EXPECT_NE(with(HostCudaQueue(), 216 << 10).find("a block uses 233472 bytes of shared memory, at most 232448 exist"),
            std::string::npos);
}

TEST(HostEngine, BarriersHoldABlockOfAnySize) {
  for (const unsigned n : kBlockSizes) {
    const auto results = on_schedules([&] {
      std::vector<int> out(3 * n);
      launch(HostCudaQueue(), rotate, dim3(3), dim3(n), 0, out.data(), 7);
      return only(out);
    });
    for (unsigned i = 0; i < 3 * n; ++i) {
      ASSERT_EQ(results[0][i], static_cast<int>((i % n + 7) % n + 1000 * (i / n))) << n << " threads";
    }
  }
}

// Threads return one round after another; the others go on.
__global__ void leave_early(int* out) {
  UNFURL_SHARED(int, count, [1]);
  if (threadIdx.x == 0) count[0] = 0;
  __syncthreads();
  for (unsigned round = 0; round < blockDim.x; ++round) {
    if (blockDim.x - 1 - threadIdx.x < round) return;
    atomicAdd(&count[0], 1);
    __syncthreads();
  }
  out[blockIdx.x] = count[0];
}

TEST(HostEngine, ABarrierCountsTheThreadsThatAreLeftWhereThatIsAllowed) {
  host::Settings settings = host::settings();
  settings.strict = false;
  for (const host::Order order : {host::Order::in_order, host::Order::reversed, host::Order::random}) {
    settings.order = order;
    const host::SettingsScope scope(settings);
    for (const int n : {1, 2, 33, 100}) {
      int out = 0;
      launch(HostCudaQueue(), leave_early, dim3(1), dim3(static_cast<unsigned>(n)), 0, &out);
      EXPECT_EQ(out, n * (n + 1) / 2);
    }
  }
}

__global__ void votes(int* out) {
  const int t = static_cast<int>(threadIdx.x);
  int* mine = out + t * 6;
  mine[0] = __syncthreads_count(t % 3 == 0);
  mine[1] = __syncthreads_and(t < 50);
  mine[2] = __syncthreads_and(t >= 0);
  mine[3] = __syncthreads_or(t == 17);
  mine[4] = __syncthreads_or(t < 0);
  mine[5] = __syncthreads_count(true);
}

TEST(HostEngine, BarriersCountVotes) {
  const int n = 70;
  const auto results = on_schedules([&] {
    std::vector<int> out(6 * n);
    launch(HostCudaQueue(), votes, dim3(1), dim3(n), 0, out.data());
    return only(out);
  });
  for (int t = 0; t < n; ++t) {
    const std::vector<int> mine(results[0].begin() + 6 * t, results[0].begin() + 6 * t + 6);
    EXPECT_EQ(mine, (std::vector<int>{24, 0, 1, 1, 0, 70})) << t;
  }
}

// Lanes of a partial mask meet while the others do something else.
__global__ void in_two_halves(int* out) {
  const int t = static_cast<int>(threadIdx.x);
  int value = t;
  if (t % 32 < 16) {
    for (int d = 8; d > 0; d /= 2) value += __shfl_xor_sync(0x0000ffffu, value, d);
  } else {
    value = __shfl_sync(0xffff0000u, value, 20);
    value += static_cast<int>(__ballot_sync(0xffff0000u, t % 2));
  }
  out[t] = value;
}

TEST(HostEngine, PartsOfAWarpMeetApart) {
  const auto results = on_schedules([&] {
    std::vector<int> out(64);
    launch(HostCudaQueue(), in_two_halves, dim3(1), dim3(64), 0, out.data());
    return only(out);
  });
  for (int t = 0; t < 64; ++t) {
    const int base = t / 32 * 32, low = 16 * base + 120;
    EXPECT_EQ(results[0][static_cast<std::size_t>(t)], t % 32 < 16 ? low : base + 20 + static_cast<int>(0xaaaa0000u))
        << t;
  }
}

__global__ void sums(float* out, const float* in, int n) {
  UNFURL_SHARED(BlockScratch, scratch, [1]);
  const int t = static_cast<int>(threadIdx.x);
  const float value = t < n ? in[t] : 0.0f;
  out[3 * t] = block_sum(value, scratch[0]);
  out[3 * t + 1] = block_max(t < n ? in[t] : -INFINITY, scratch[0]);
  out[3 * t + 2] = warp_max(value);
}

TEST(HostEngine, BlocksReduce) {
  for (const int n : {32, 64, 480, 1024}) {
    const std::vector<float> in = normal<float>(n, 3);
    const auto results = on_schedules([&] {
      std::vector<float> out(3 * static_cast<std::size_t>(n));
      launch(HostCudaQueue(), sums, dim3(1), dim3(static_cast<unsigned>(n)), 0, out.data(), in.data(), n);
      return only(out);
    });
    const float sum = std::accumulate(in.begin(), in.end(), 0.0f);
    for (int t = 0; t < n; ++t) {
      const float* mine = &results[0][3 * static_cast<std::size_t>(t)];
      EXPECT_NEAR(mine[0], sum, 1e-4);
      EXPECT_EQ(mine[1], *std::max_element(in.begin(), in.end()));
      const auto warp = in.begin() + t / 32 * 32;
      EXPECT_EQ(mine[2], *std::max_element(warp, warp + 32));
    }
  }
}

// Every kind of shuffle against its definition.
__global__ void shuffles(int* out, int argument, int width) {
  const int t = static_cast<int>(threadIdx.x);
  out[4 * t] = __shfl_sync(0xffffffffu, 100 + t, argument, width);
  out[4 * t + 1] = __shfl_up_sync(0xffffffffu, 100 + t, static_cast<unsigned>(argument), width);
  out[4 * t + 2] = __shfl_down_sync(0xffffffffu, 100 + t, static_cast<unsigned>(argument), width);
  out[4 * t + 3] = __shfl_xor_sync(0xffffffffu, 100 + t, argument, width);
}

TEST(HostEngine, ShufflesGoWhereTheirDefinitionsSay) {
  for (const int width : {1, 4, 16, 32}) {
    for (const int argument : {0, 1, 3, 15, 31}) {
      std::vector<int> out(4 * 64);
      launch(HostCudaQueue(), shuffles, dim3(1), dim3(64), 0, out.data(), argument, width);
      for (int t = 0; t < 64; ++t) {
        const int first = t / width * width, i = t - first;
        const int* mine = &out[4 * static_cast<std::size_t>(t)];
        EXPECT_EQ(mine[0], 100 + first + argument % width);
        EXPECT_EQ(mine[1], 100 + (i >= argument ? t - argument : t));
        EXPECT_EQ(mine[2], 100 + (i + argument < width ? t + argument : t));
        EXPECT_EQ(mine[3], 100 + ((i ^ argument) < width ? first + (i ^ argument) : t));
      }
    }
  }
}

__global__ void positions(unsigned* out) {
  const unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  const unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  out[block * blockDim.x * blockDim.y * blockDim.z + thread] += block * 1000 + thread;
}

TEST(HostEngine, EveryThreadOfEveryBlockRunsOnce) {
  const dim3 grid(5, 3, 2), block(4, 7, 3);
  const auto results = on_schedules([&] {
    std::vector<unsigned> out(30 * 84);
    launch(HostCudaQueue(), positions, grid, block, 0, out.data());
    return only(out);
  });
  for (unsigned i = 0; i < results[0].size(); ++i) ASSERT_EQ(results[0][i], i / 84 * 1000 + i % 84);
}

TEST(HostEngine, BlocksAreSpreadOverThreads) {
  host::Settings settings = host::settings();
  for (const int workers : {1, 2, 5}) {
    settings.workers = workers;
    const host::SettingsScope scope(settings);
    std::vector<int> out(64 * 256);
    launch(HostCudaQueue(), rotate, dim3(64), dim3(256), 0, out.data(), 3);
    for (int i = 0; i < 64 * 256; ++i) {
      ASSERT_EQ(out[static_cast<std::size_t>(i)], (i % 256 + 3) % 256 + 1000 * (i / 256));
    }
  }
}

struct Tiles {
  float first[8][8];
  int second[100];
};

__global__ void arrays(float* out) {
  UNFURL_DYNAMIC_SHARED(Tiles, tiles);
  UNFURL_SHARED(float, more, [4][5]);
  UNFURL_SHARED(double, aligned, [2]);
  const int t = static_cast<int>(threadIdx.x);
  if (t == 0) out[0] = tiles.first[3][3] + more[2][2] + static_cast<float>(aligned[1]);  // poisoned
  __syncthreads();
  tiles.second[t] = t;
  more[t / 5][t % 5] = static_cast<float>(t);
  __syncthreads();
  if (t == 1) {
    out[1] = static_cast<float>(tiles.second[19]) + more[3][4];
    out[2] = static_cast<float>(ptx::shared_address(&tiles) % 1024);
    out[3] = static_cast<float>(reinterpret_cast<std::uintptr_t>(aligned) % alignof(double));
  }
}

TEST(HostEngine, SharedMemoryStartsAsNaNs) {
  if (kMemorySanitizer) GTEST_SKIP() << "would report it";
  std::vector<float> out(4, -1);
  launch(HostCudaQueue(), arrays, dim3(1), dim3(20), sizeof(Tiles), out.data());
  EXPECT_TRUE(std::isnan(out[0]));
  EXPECT_EQ(out[1], 38);
  EXPECT_EQ(out[2], 0);
  EXPECT_EQ(out[3], 0);
}

// What a read past the end gives is nothing that a computation could hide.
__global__ void past_the_end(double* out, int odd) {
  UNFURL_SHARED(float, floats, [7]);
  UNFURL_SHARED(unsigned char, bytes, [3]);
  UNFURL_SHARED(double, doubles, [2]);
  const auto* const after = reinterpret_cast<const unsigned char*>(bytes) + 3 + odd;  // even: a bf16 stands there
  bf16 half;
  std::memcpy(&half, after, sizeof half);
  const float* const past_floats = floats + 7;
  const double* const past_doubles = doubles + 2;
  int index = 0;
  std::int64_t wide = 0;
  std::memcpy(&index, past_floats, sizeof index);
  std::memcpy(&wide, past_doubles, sizeof wide);
  out[0] = static_cast<double>(past_floats[0]);
  out[1] = past_doubles[0];
  out[2] = static_cast<double>(to_float(half));
  out[3] = index;
  out[4] = static_cast<double>(wide);
}

TEST(HostEngine, AReadPastTheEndOfSharedMemoryShows) {
  if (kAddressSanitizer || kMemorySanitizer) GTEST_SKIP() << "would report it";
  std::vector<double> out(5);
  launch(HostCudaQueue(), past_the_end, dim3(1), dim3(1), 0, out.data(), 1);
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(std::isnan(out[static_cast<std::size_t>(i)])) << i;
  EXPECT_GT(out[3], 2e9);
  EXPECT_GT(out[4], 9e18);
}

// What one kernel may use, the next one that uses less may not, and what is behind it is red again.
__global__ void large(float* out) {
  UNFURL_SHARED(float, all, [12000]);
  for (int i = 0; i < 12000; ++i) all[i] = 1;
  out[0] = all[11999];
}
__global__ void small(float* out, int past) {
  UNFURL_SHARED(float, few, [4]);
  float* const values = few;
  if (past >= 0) values[4 + past] = 2;
  out[0] = 1;
}

TEST(HostEngine, SharedMemoryOfAnEarlierKernelIsOutOfReach) {
  if (kAddressSanitizer || kThreadSanitizer || kMemorySanitizer) GTEST_SKIP() << "would report it";
  const HostCudaQueue queue;
  float out = 0;
  for (int i = 0; i < 3; ++i) {
    launch(queue, large, dim3(1), dim3(1), 0, &out);
    EXPECT_NE(fault_of([&] {
                launch(queue, small, dim3(1), dim3(1), 0, &out, 10000);
              }).find("access 40000 bytes past the end of shared array 'few'"),
              std::string::npos);
    launch(queue, large, dim3(1), dim3(1), 0, &out);
    EXPECT_NE(fault_of([&] {
                launch(queue, small, dim3(1), dim3(1), 0, &out, 500);  // within the page, behind the red zone
              }).find("write 2000 bytes past the end of shared array 'few'"),
              std::string::npos);
    EXPECT_EQ(fault_of([&] { launch(queue, small, dim3(1), dim3(1), 0, &out, -1); }), "none");
  }
}

TEST(HostEngine, WhatTheEnvironmentAsksForIsChecked) {
  if (kMemorySanitizer) GTEST_SKIP() << "strings are of a library that is not instrumented";
  const auto asked = [](const char* variable, const char* value) {
    const char* const before = std::getenv(variable);
    const std::string kept = before != nullptr ? before : "";
    ::setenv(variable, value, 1);
    std::string problem;
    host::Settings settings;
    try {
      settings = host::settings_asked();
    } catch (const std::invalid_argument& error) {
      problem = error.what();
    }
    ::setenv(variable, kept.c_str(), 1);
    return std::pair(settings, problem);
  };
  EXPECT_EQ(asked("UNFURL_HOST_ORDER", "reversed").first.order, host::Order::reversed);
  EXPECT_EQ(asked("UNFURL_HOST_COPIES", "at_once").first.copies, host::Copies::at_once);
  EXPECT_EQ(asked("UNFURL_HOST_SEED", "18446744073709551615").first.seed, ~std::uint64_t{0});
  EXPECT_EQ(asked("UNFURL_HOST_WORKERS", "3").first.workers, 3);
  EXPECT_EQ(asked("UNFURL_HOST_SEED", "").second, "");
  EXPECT_EQ(asked("UNFURL_HOST_ORDER", "backwards").second,
            "the environment variable UNFURL_HOST_ORDER must be one of in_order, reversed, random, got \"backwards\"");
  EXPECT_NE(asked("UNFURL_HOST_COPIES", "never").second, "");
  EXPECT_EQ(asked("UNFURL_HOST_WORKERS", "many").second,
            "the environment variable UNFURL_HOST_WORKERS must be a number from 0 to 1024, got \"many\"");
  for (const char* bad : {"-1", "x", "7x", " 7", "1e3", "18446744073709551616"}) {
    EXPECT_NE(asked("UNFURL_HOST_SEED", bad).second, "") << bad;
  }
  for (const char* bad : {"-1", "1025", "2 "}) EXPECT_NE(asked("UNFURL_HOST_WORKERS", bad).second, "") << bad;
}

__global__ void spin(int* out) {
  UNFURL_SHARED(int, turn, [1]);
  if (threadIdx.x == 0) turn[0] = 0;
  __syncthreads();
  while (std::atomic_ref<int>(turn[0]).load() != static_cast<int>(blockDim.x - 1 - threadIdx.x)) host::yield();
  out[turn[0]] = static_cast<int>(threadIdx.x);
  std::atomic_ref<int>(turn[0]).fetch_add(1);
}

TEST(HostEngine, YieldLetsOthersRun) {
  const auto results = on_schedules([&] {
    std::vector<int> out(40);
    launch(HostCudaQueue(), spin, dim3(1), dim3(40), 0, out.data());
    return only(out);
  });
  for (int i = 0; i < 40; ++i) EXPECT_EQ(results[0][static_cast<std::size_t>(i)], 39 - i);
}

__global__ void throws() { throw std::runtime_error("no such luck"); }
__global__ void nothing() {}

TEST(HostEngine, ImpossibleLaunchesAreRefused) {
  const HostCudaQueue queue;
  launch(queue, nothing, dim3(0), dim3(32), 0);
  EXPECT_NE(fault_of([&] { launch(queue, nothing, dim3(1), dim3(1025), 0); }).find("engine_test.cu"),
            std::string::npos);
  EXPECT_NE(fault_of([&] { launch(queue, nothing, dim3(1), dim3(0), 0); }), "none");
  EXPECT_NE(fault_of([&] { launch(queue, nothing, dim3(1, 65536), dim3(1), 0); }), "none");
  const HostCudaQueue small(0, 163 << 10);
  EXPECT_NE(fault_of([&] { launch(small, nothing, dim3(1), dim3(1), 164 << 10); }).find("at most 166912 exist"),
            std::string::npos);
  EXPECT_NE(fault_of([&] { launch(queue, nothing, dim3(1), dim3(1), 228 << 10); }).find("shared memory"),
            std::string::npos);
  EXPECT_NE(fault_of([&] { launch(queue, throws, dim3(1), dim3(1), 0); }).find("the kernel threw: no such luck"),
            std::string::npos);
}

__global__ void fails_late(int* out) {
  UNFURL_SHARED(int, values, [64]);
  values[threadIdx.x] = 1;
  __syncthreads();
  if (blockIdx.x == 3 && threadIdx.x == 5) __trap();
  __syncthreads();
  if (threadIdx.x == 0) out[blockIdx.x] = 1;
}

// After a fault with many threads in the middle of things, the next launch is as good as ever.
TEST(HostEngine, AFaultLeavesNothingBehind) {
  std::vector<int> out(200);
  for (int i = 0; i < 3; ++i) {
    EXPECT_NE(fault_of([&] {
                launch(HostCudaQueue(), fails_late, dim3(200), dim3(64), 0, out.data());
              }).find("__trap() [block (3,0,0) thread (5,0,0)]"),
              std::string::npos);
    std::vector<int> rotated(64);
    launch(HostCudaQueue(), rotate, dim3(1), dim3(64), 0, rotated.data(), 1);
    EXPECT_EQ(rotated[63], 0);
  }
}

__global__ void add(float* y, const float* x, float scale) { y[threadIdx.x] += scale * x[threadIdx.x]; }

TEST(HostCudaQueue, AGraphRunsAgainWhatWasCaptured) {
  const HostCudaQueue queue;
  auto* x = static_cast<float*>(queue.allocate(32 * sizeof(float)));
  auto* y = static_cast<float*>(queue.allocate(32 * sizeof(float)));
  EXPECT_TRUE(kMemorySanitizer || std::isnan(x[31]));
  const std::vector<float> ones(32, 1.0f);
  queue.copy(x, ones.data(), 32 * sizeof(float));
  queue.fill(y, 0, 32 * sizeof(float));
  queue.begin_capture();
  launch(queue, add, dim3(1), dim3(32), 0, y, x, 2.0f);
  launch(queue, add, dim3(1), dim3(32), 0, y, x, 3.0f);
  const HostCudaQueue::Graph graph = queue.end_capture();
  EXPECT_EQ(y[7], 0);
  for (int i = 0; i < 3; ++i) queue.launch(graph);
  EXPECT_EQ(y[7], 15);
  const auto before = queue.record();
  queue.wait(before);
  EXPECT_GE(HostCudaQueue::seconds_between(before, queue.record()), 0);
  queue.free(x);
  queue.free(y);
}

TEST(HostCudaQueue, LateStreamsWorkWhenTheyAreWaitedFor) {
  host::Settings late = host::settings();
  late.streams = host::Streams::late;
  const host::SettingsScope scope(late);
  const HostCudaQueue queue, other;
  auto* const x = static_cast<float*>(queue.allocate(32 * sizeof(float)));
  auto* const y = static_cast<float*>(queue.allocate(32 * sizeof(float)));
  std::vector<float> ones(32, 1.0f);
  queue.fill(y, 0, 32 * sizeof(float));
  queue.copy(x, ones.data(), 32 * sizeof(float));
  ones[7] = 2;  // too early: the copy has not taken place
  const auto copied = queue.record();
  launch(queue, add, dim3(1), dim3(32), 0, y, x, 2.0f);
  copied.wait();
  EXPECT_EQ(x[7], 2);
  EXPECT_EQ(y[7], 0) << "what stands behind the event is not waited for";
  // Another queue's work that waits for this one's.
  float seen = 0;
  other.wait(queue.record());
  other.copy(&seen, y + 7, sizeof(float));
  EXPECT_EQ(y[7], 0);
  other.synchronize();
  EXPECT_EQ(seen, 4);
  // An event knows whether it has been reached, and queues may wait for one another to and fro.
  const auto before = queue.record();
  queue.fill(x, 0, 32 * sizeof(float));
  const auto filled = queue.record();
  EXPECT_TRUE(before.done());
  EXPECT_FALSE(filled.done());
  other.wait(filled);
  other.copy(x, ones.data(), 32 * sizeof(float));
  queue.wait(other.record());
  float back = 0;
  queue.copy(&back, x + 7, sizeof(float));
  queue.synchronize();
  EXPECT_TRUE(filled.done());
  EXPECT_EQ(back, 2);
  // A graph, and memory that is given back before its work has run.
  queue.begin_capture();
  launch(queue, add, dim3(1), dim3(32), 0, y, x, 3.0f);
  queue.launch(queue.end_capture());
  queue.copy(&seen, y + 7, sizeof(float));
  queue.free(x);
  queue.free(y);
  EXPECT_EQ(seen, 4);
  queue.synchronize();
  EXPECT_EQ(seen, 10);
}

TEST(HostCudaQueue, AGraphRecordsAnEventWhenItIsLaunched) {
  host::Settings late = host::settings();
  late.streams = host::Streams::late;
  const host::SettingsScope scope(late);
  const HostCudaQueue queue, other;
  unsigned char a = 0, b = 0;
  HostCudaQueue::Event half;
  EXPECT_TRUE(half.done());
  queue.begin_capture();
  queue.fill(&a, 1, 1);
  queue.record(half);
  queue.fill(&b, 1, 1);
  const HostCudaQueue::Graph graph = queue.end_capture();
  EXPECT_TRUE(half.done()) << "nothing was launched";
  // A wait is for what was recorded before it.
  other.wait(half);
  unsigned char seen = 9;
  other.copy(&seen, &a, 1);
  queue.launch(graph);
  EXPECT_FALSE(half.done());
  other.synchronize();
  EXPECT_EQ(seen, 0);
  other.wait(half);
  queue.fill(&a, 5, 1);
  queue.launch(graph);
  other.copy(&seen, &a, 1);
  other.synchronize();
  EXPECT_EQ(seen, 1);
  EXPECT_EQ(b, 0) << "what is behind the event in the graph is not waited for, nor is the second launch";
  EXPECT_FALSE(half.done());
  half.wait();
  EXPECT_EQ(a, 1);
  EXPECT_EQ(b, 1);
  b = 0;
  EXPECT_TRUE(half.done());
  // Outside of a capture it is recorded at once.
  queue.record(half);
  EXPECT_FALSE(half.done());
  half.wait();
  EXPECT_EQ(b, 1);
}

TEST(HostCudaQueue, ScratchMayNotGrowInACapture) {
  const HostCudaQueue queue;
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(queue.scratch(1000)) % 256, 0u);
  queue.begin_capture();
  EXPECT_NO_THROW(queue.scratch(500));
  EXPECT_THROW(queue.scratch(2000), std::runtime_error);
  queue.end_capture();
}

TEST(HostCudaQueue, IsOneDeviceWithTheMachinesMemory) {
  if (kMemorySanitizer) GTEST_SKIP() << "strings and files are of a library that is not instrumented";
  EXPECT_GT(HostCudaQueue::properties().memory, 0u);
  EXPECT_THROW(HostCudaQueue(1), std::runtime_error);
}

}  // namespace
}  // namespace unfurl::tests
