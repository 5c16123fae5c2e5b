#include "core/dispatch.h"

namespace unfurl {
namespace {
thread_local const kernels::CpuQueue* current = nullptr;
}

const kernels::CpuQueue& cpu_queue() {
  if (current != nullptr) return *current;
  thread_local const kernels::CpuQueue queue(kernels::ThreadPool::global());
  return queue;
}

QueueScope::QueueScope(const kernels::CpuQueue& queue) : before_(std::exchange(current, &queue)) {}
QueueScope::~QueueScope() { current = before_; }

}  // namespace unfurl
