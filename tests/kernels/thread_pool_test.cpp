// The pool: every index once, nested calls, exceptions, quick jobs in a row, several callers, an end at any moment.
#include "kernels/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "kernels/queue.h"

namespace unfurl::tests {
namespace {

using kernels::ThreadPool;

TEST(ThreadPool, CallsEveryIndexOnce) {
  for (const int threads : {1, 2, 3, 5, 8}) {
    ThreadPool pool(threads, false);
    EXPECT_EQ(pool.threads(), threads);
    for (const Index count : {0, 1, 2, 7, 1000}) {
      std::vector<std::atomic<int>> calls(static_cast<std::size_t>(count));
      pool.parallel_for(count, [&](Index i) { calls[static_cast<std::size_t>(i)]++; });
      for (const auto& n : calls) EXPECT_EQ(n, 1) << threads << " threads, " << count;
    }
    pool.parallel_for(-3, [](Index) { FAIL(); });
  }
}

TEST(ThreadPool, AtLeastOneThread) {
  EXPECT_EQ(ThreadPool(0, false).threads(), 1);
  EXPECT_EQ(ThreadPool(-4, true).threads(), 1);
  EXPECT_GE(ThreadPool::available_cores(), 1);
  EXPECT_GE(ThreadPool::global().threads(), 1);
  ThreadPool::unpin_this_thread();  // or the other tests share one core
}

TEST(ThreadPool, TheEnvironmentSaysHowManyThreads) {
  const char* const before = std::getenv("UNFURL_THREADS");
  const std::string kept = before == nullptr ? "" : before;
  ::unsetenv("UNFURL_THREADS");
  EXPECT_EQ(ThreadPool::threads_asked(), 0);
  for (const auto& [text, threads] : {std::pair{"", 0}, {"1", 1}, {"12", 12}, {"1024", 1024}}) {
    ::setenv("UNFURL_THREADS", text, 1);
    EXPECT_EQ(ThreadPool::threads_asked(), threads) << text;
  }
  for (const char* bad : {"0", "-3", "abc", "1e9", "1025", "99999999999999999999", "2 ", " 2", "2.5"}) {
    ::setenv("UNFURL_THREADS", bad, 1);
    EXPECT_THROW(ThreadPool::threads_asked(), std::invalid_argument) << bad;
  }
  if (before == nullptr) {
    ::unsetenv("UNFURL_THREADS");
  } else {
    ::setenv("UNFURL_THREADS", kept.c_str(), 1);
  }
}

TEST(ThreadPool, WritesOfTasksAreSeenByTheCaller) {
  ThreadPool pool(3, false);
  std::vector<Index> values(64);
  for (Index job = 0; job < 5000; ++job) {
    // Plain, unsynchronised memory: the pool itself orders it, before and after.
    const std::vector<Index> before = values;
    pool.parallel_for(
        64, [&](Index i) { values[static_cast<std::size_t>(i)] = before[static_cast<std::size_t>(i)] + i + job; });
    for (Index i = 0; i < 64; ++i) {
      ASSERT_EQ(values[static_cast<std::size_t>(i)], before[static_cast<std::size_t>(i)] + i + job) << "job " << job;
    }
  }
}

TEST(ThreadPool, WakesSleepingThreads) {
  ThreadPool pool(4, false);
  for (int job = 0; job < 5; ++job) {
    std::this_thread::sleep_for(std::chrono::milliseconds(3));
    std::atomic<int> calls{0};
    pool.parallel_for(100, [&](Index) { calls++; });
    EXPECT_EQ(calls, 100);
  }
}

TEST(ThreadPool, UsesSeveralThreads) {
  ThreadPool pool(2, false);
  // Both tasks wait for each other: one thread alone would not come back.
  std::atomic<int> arrived{0};
  pool.parallel_for(2, [&](Index) {
    arrived++;
    while (arrived < 2) std::this_thread::yield();
  });
  EXPECT_EQ(arrived, 2);
}

TEST(ThreadPool, NestedCallsRunInTheirThread) {
  ThreadPool pool(3, false), other(3, false);
  std::atomic<int> calls{0};
  pool.parallel_for(20, [&](Index) {
    const auto self = std::this_thread::get_id();
    for (ThreadPool* inner : {&pool, &other}) {
      inner->parallel_for(7, [&](Index) {
        EXPECT_EQ(std::this_thread::get_id(), self);
        calls++;
      });
    }
  });
  EXPECT_EQ(calls, 20 * 2 * 7);
}

TEST(ThreadPool, ThrowsTheExceptionOfATaskAgain) {
  for (const int threads : {1, 4}) {
    ThreadPool pool(threads, false);
    for (int job = 0; job < 50; ++job) {
      try {
        pool.parallel_for(100, [&](Index i) {
          if (i % 10 == 3) throw std::runtime_error("job " + std::to_string(job));
        });
        FAIL() << "nothing was thrown";
      } catch (const std::runtime_error& error) {
        EXPECT_EQ(error.what(), "job " + std::to_string(job));
      }
      std::atomic<int> calls{0};
      pool.parallel_for(10, [&](Index) { calls++; });
      EXPECT_EQ(calls, 10);
    }
    // From a nested call too.
    EXPECT_THROW(
        pool.parallel_for(4, [&](Index) { pool.parallel_for(4, [](Index) { throw std::logic_error("inner"); }); }),
        std::logic_error);
  }
}

TEST(ThreadPool, SeveralCallersTakeTurns) {
  ThreadPool pool(3, false);
  std::atomic<int> wrong{0};
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 4; ++caller) {
    callers.emplace_back([&, caller] {
      for (int job = 0; job < 300; ++job) {
        std::vector<int> values(33);
        pool.parallel_for(33, [&](Index i) { values[static_cast<std::size_t>(i)] = caller + job; });
        for (const int value : values) wrong += value != caller + job;
      }
    });
  }
  for (auto& caller : callers) caller.join();
  EXPECT_EQ(wrong, 0);
}

TEST(ThreadPool, EndsAtAnyMoment) {
  for (int round = 0; round < 60; ++round) {
    ThreadPool pool(4, false);
    if (round % 3 == 0) continue;
    std::atomic<int> calls{0};
    for (int job = 0; job < round; ++job) pool.parallel_for(5, [&](Index) { calls++; });
    EXPECT_EQ(calls, 5 * round);
  }
}

TEST(ThreadPool, ScratchIsAlignedAndPerThread) {
  ThreadPool pool(3, false);
  std::atomic<int> wrong{0};
  pool.parallel_for(200, [&](Index i) {
    const std::size_t bytes = 100 + static_cast<std::size_t>(i) * 64;
    auto* memory = static_cast<unsigned char*>(kernels::thread_scratch(bytes));
    wrong += reinterpret_cast<std::uintptr_t>(memory) % 64 != 0;
    for (std::size_t at = 0; at < bytes; ++at) memory[at] = static_cast<unsigned char>(i);
    for (std::size_t at = 0; at < bytes; ++at) wrong += memory[at] != static_cast<unsigned char>(i);
  });
  EXPECT_EQ(wrong, 0);

  const kernels::CpuQueue queue(pool);
  void* first = queue.scratch(1000);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(first) % 64, 0U);
  EXPECT_EQ(queue.scratch(500), first);
  static_cast<unsigned char*>(queue.scratch(100000))[99999] = 1;
}

}  // namespace
}  // namespace unfurl::tests
