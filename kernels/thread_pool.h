// One pool of threads for everything that the CPU backend does.
//
// Threads are pinned, each to a core of its own among the cores this process may use, so that two never share one. They
// spin for a bounded time for the next job, then sleep on a futex. Which thread runs a task is not fixed, so a task's
// result must depend on its index alone: then results do not depend on the number of threads.
#pragma once
#include <cstdint>
#include <memory>

#include "kernels/types.h"

namespace unfurl::kernels {

class ThreadPool {
 public:
  /// `threads` counts the caller, which works too: a pool of one starts no thread. `pin` is ignored where there are
  /// fewer cores than threads.
  explicit ThreadPool(int threads, bool pin = true);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  /// The process's pool: as many threads as the environment variable UNFURL_THREADS says, else as many as cores this
  /// process may use. The first call throws as threads_asked() does.
  static ThreadPool& global();

  /// What UNFURL_THREADS says, 0 where it is not set. Throws std::invalid_argument, whose text is for the user, where
  /// it is no number from 1 to 1024.
  static int threads_asked();

  int threads() const;

  /// How many cores this process may use: those of its affinity mask, or fewer where its control groups grant it less
  /// time than that.
  static int available_cores();

  /// Lets the calling thread, and those it starts, use every core of this process again: for libraries that bring
  /// threads of their own.
  static void unpin_this_thread();

  /// Calls task(i) once for every i in [0, count), on all threads, in any order, and returns when all are done. The
  /// first exception is thrown again here. A call from inside a task runs in that task's thread.
  template <class Task>
  void parallel_for(Index count, const Task& task) {
    run(
        count, [](const void* context, Index i) { (*static_cast<const Task*>(context))(i); }, &task);
  }

 private:
  struct State;
  void run(Index count, void (*task)(const void*, Index), const void* context);
  std::unique_ptr<State> state_;
};

/// At least `bytes` bytes for the calling thread alone, 64-byte aligned, uninitialised; valid until the thread's next
/// call.
void* thread_scratch(std::size_t bytes);

}  // namespace unfurl::kernels
