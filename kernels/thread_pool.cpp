#include "kernels/thread_pool.h"

#include <immintrin.h>
#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <mutex>
#include <new>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "kernels/cores.h"

namespace unfurl::kernels {
namespace {

thread_local bool inside_task = false;

/// A failure to pin costs speed only, so it is not an error.
void pin_this_thread(int core) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(core, &set);
  pthread_setaffinity_np(pthread_self(), sizeof set, &set);
}

}  // namespace

struct ThreadPool::State {
  static constexpr std::uint32_t kClosed = 1u << 31;
  static constexpr int kSpins = 4000;  // about 40 microseconds, the gap between two kernels of a step

  // The job. Written while the gate is closed and nobody is inside, read only by threads that entered.
  void (*task)(const void*, Index) = nullptr;
  const void* context = nullptr;
  Index count = 0;

  alignas(64) std::atomic<Index> next{0};
  alignas(64) std::atomic<std::uint32_t> gate{kClosed};  // closed flag, and how many workers are inside
  alignas(64) std::atomic<std::uint32_t> generation{0};  // one more for each job; workers sleep on it
  std::atomic<bool> stop{false};
  std::mutex caller;  // one job at a time
  std::mutex error_mutex;
  std::exception_ptr error;
  std::vector<std::thread> workers;

  void work() {
    inside_task = true;
    for (Index i; (i = next.fetch_add(1, std::memory_order_relaxed)) < count;) {
      try {
        task(context, i);
      } catch (...) {
        const std::lock_guard lock(error_mutex);
        if (!error) error = std::current_exception();
        next.store(count, std::memory_order_relaxed);
      }
    }
    inside_task = false;
  }

  void serve() {
    std::uint32_t seen = 0;
    while (true) {
      for (int spin = 0; spin < kSpins && generation.load(std::memory_order_acquire) == seen; ++spin) _mm_pause();
      generation.wait(seen, std::memory_order_acquire);
      seen = generation.load(std::memory_order_acquire);
      if (stop.load(std::memory_order_acquire)) return;
      // A late thread finds the gate closed, or a later job: both are fine.
      if ((gate.fetch_add(1, std::memory_order_acq_rel) & kClosed) == 0) work();
      gate.fetch_sub(1, std::memory_order_acq_rel);
    }
  }

  /// Spins, then yields, until nobody is inside.
  void wait_until_empty() {
    for (int spin = 0; (gate.load(std::memory_order_acquire) & ~kClosed) != 0; ++spin) {
      if (spin < kSpins) {
        _mm_pause();
      } else {
        std::this_thread::yield();
      }
    }
  }
};

ThreadPool::ThreadPool(int threads, bool pin) : state_(std::make_unique<State>()) {
  threads = std::max(threads, 1);
  const std::vector<int> cores = core_list();
  pin = pin && threads > 1 && threads <= static_cast<int>(cores.size());
  if (pin) pin_this_thread(cores[0]);
  try {
    for (int i = 1; i < threads; ++i) {
      state_->workers.emplace_back([state = state_.get(), pin, core = pin ? cores[static_cast<std::size_t>(i)] : 0] {
        if (pin) pin_this_thread(core);
        state->serve();
      });
    }
  } catch (const std::system_error&) {
    // The system gives no more threads: those that started do the work.
  }
}

ThreadPool::~ThreadPool() {
  state_->stop.store(true, std::memory_order_release);
  state_->generation.fetch_add(1, std::memory_order_acq_rel);
  state_->generation.notify_all();
  for (std::thread& worker : state_->workers) worker.join();
}

int ThreadPool::threads() const { return static_cast<int>(state_->workers.size()) + 1; }

int ThreadPool::available_cores() {
  const int cores = std::max(1, CPU_COUNT(&process_cores())), quota = core_quota();
  return quota > 0 ? std::min(cores, quota) : cores;
}

void ThreadPool::unpin_this_thread() { pthread_setaffinity_np(pthread_self(), sizeof(cpu_set_t), &process_cores()); }

ThreadPool& ThreadPool::global() {
  // Granted less time than it has cores, a process owns none of them: pinned, it would stay where others crowd.
  static ThreadPool pool(threads_asked() > 0 ? threads_asked() : available_cores(),
                         available_cores() == CPU_COUNT(&process_cores()));
  return pool;
}

int ThreadPool::threads_asked() {
  const char* const text = std::getenv("UNFURL_THREADS");
  if (text == nullptr || *text == '\0') return 0;
  int threads = 0;
  const char* const end = text + std::strlen(text);
  const auto [stop, problem] = std::from_chars(text, end, threads);
  if (problem == std::errc() && stop == end && threads >= 1 && threads <= 1024) return threads;
  throw std::invalid_argument(std::string("the environment variable UNFURL_THREADS must be from 1 to 1024, got \"") +
                              text + "\"; unset it to use every core");
}

void ThreadPool::run(Index count, void (*task)(const void*, Index), const void* context) {
  if (count <= 0) return;
  if (inside_task || count == 1 || state_->workers.empty()) {
    for (Index i = 0; i < count; ++i) task(context, i);
    return;
  }
  const std::lock_guard lock(state_->caller);
  State& s = *state_;
  s.wait_until_empty();
  s.task = task;
  s.context = context;
  s.count = count;
  s.next.store(0, std::memory_order_relaxed);
  s.gate.fetch_and(~State::kClosed, std::memory_order_acq_rel);
  s.generation.fetch_add(1, std::memory_order_acq_rel);
  s.generation.notify_all();
  s.work();
  s.gate.fetch_or(State::kClosed, std::memory_order_acq_rel);
  s.wait_until_empty();
  if (s.error) std::rethrow_exception(std::exchange(s.error, nullptr));
}

void* thread_scratch(std::size_t bytes) {
  struct Buffer {
    void* memory = nullptr;
    std::size_t bytes = 0;
    ~Buffer() { ::operator delete (memory, std::align_val_t{64}); }
  };
  thread_local Buffer buffer;
  if (bytes > buffer.bytes) {
    ::operator delete (buffer.memory, std::align_val_t{64});
    buffer.memory = nullptr;
    buffer.bytes = 0;
    buffer.memory = ::operator new (bytes, std::align_val_t{64});
    buffer.bytes = bytes;
  }
  return buffer.memory;
}

}  // namespace unfurl::kernels
