// What this machine can do at most, measured once at the start of a benchmark: every figure is printed with its share
// of the ceiling that bounds it.
#pragma once
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <vector>

#include "kernels/matmul.h"
#include "tests/support/random.h"

namespace unfurl::benchmarks {

/// The least seconds of `rounds` calls.
template <class Body>
double best_seconds(int rounds, const Body& body) {
  double best = 1e300;
  for (int i = 0; i < rounds; ++i) {
    const auto start = std::chrono::steady_clock::now();
    body();
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return best;
}

struct Ceilings {
  double gemm = 0;  // FLOP/s: every thread runs large products of its own, so nothing is lost between threads
  double read = 0;  // bytes/s, from memory
  double copy = 0;  // bytes/s read plus bytes/s written

  static const Ceilings& of_this_machine() {
    static const Ceilings measured = measure();
    return measured;
  }

 private:
  static Ceilings measure() {
    kernels::ThreadPool& pool = kernels::ThreadPool::global();
    const kernels::CpuQueue queue(pool);
    const auto threads = static_cast<Index>(pool.threads());
    Ceilings out;

    constexpr Index kSide = 768;
    const auto a = tests::normal(kSide * kSide, 1), b = tests::normal(kSide * kSide, 2);
    std::vector<std::vector<float>> c(static_cast<std::size_t>(threads), std::vector<float>(kSide * kSide));
    const double seconds = best_seconds(5, [&] {
      pool.parallel_for(threads, [&](Index i) {
        kernels::matmul<kernels::CpuQueue, float>(queue, {c[static_cast<std::size_t>(i)].data(), kSide},
                                                  {a.data(), kSide}, false, {b.data(), kSide}, true, kSide, kSide,
                                                  kSide, false);
      });
    });
    out.gemm = 2.0 * kSide * kSide * kSide * static_cast<double>(threads) / seconds;

    constexpr Index kBlock = 1 << 17, kBlocks = 256;  // 256 MiB of 64-bit words
    std::vector<std::uint64_t> from(kBlock * kBlocks, 3), to(kBlock * kBlocks, 5);
    std::vector<std::uint64_t> sums(kBlocks);
    const double bytes = static_cast<double>(from.size()) * 8;
    out.read = bytes / best_seconds(5, [&] {
                 pool.parallel_for(kBlocks, [&](Index i) {
                   std::uint64_t sum = 0;
                   for (Index at = i * kBlock; at < (i + 1) * kBlock; ++at) sum += from[static_cast<std::size_t>(at)];
                   sums[static_cast<std::size_t>(i)] = sum;
                 });
               });
    out.copy = 2 * bytes / best_seconds(5, [&] {
                 pool.parallel_for(kBlocks, [&](Index i) {
                   std::memcpy(to.data() + i * kBlock, from.data() + i * kBlock, kBlock * 8);
                 });
               });
    return out;
  }
};

}  // namespace unfurl::benchmarks
