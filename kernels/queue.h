// Where a kernel runs. A kernel's contract is one template over the queue and the element type; a backend instantiates
// it for its own queue.
#pragma once
#include <cstddef>
#include <memory>

#include "kernels/thread_pool.h"
#include "kernels/types.h"

namespace unfurl::kernels {

/// Runs kernels on the threads of a pool. A kernel has finished when its call returns. One thread at a time may use a
/// queue.
class CpuQueue {
 public:
  explicit CpuQueue(ThreadPool& pool) : pool_(&pool) {}

  ThreadPool& pool() const { return *pool_; }

  /// At least `bytes` bytes, 64-byte aligned, uninitialised; valid until the next call. It grows and is kept.
  void* scratch(std::size_t bytes) const;

 private:
  struct Free {
    void operator()(void* memory) const;
  };
  ThreadPool* pool_;
  mutable std::unique_ptr<void, Free> scratch_;
  mutable std::size_t scratch_bytes_ = 0;
};

}  // namespace unfurl::kernels
