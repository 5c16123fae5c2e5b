// The one place where an operation meets a backend: it chooses the queue by the tensor's device and the kernel's type
// by the tensor's element type.
#pragma once
#include <utility>

#include "core/tensor.h"
#include "core/trace.h"
#include "kernels/queue.h"

namespace unfurl {

/// The queue on which this thread's CPU operations run: of the global thread pool, or of the innermost QueueScope.
const kernels::CpuQueue& cpu_queue();

/// This thread's CPU operations run on `queue` until the end of the scope.
class QueueScope {
 public:
  explicit QueueScope(const kernels::CpuQueue& queue);
  ~QueueScope();
  QueueScope(const QueueScope&) = delete;
  QueueScope& operator=(const QueueScope&) = delete;

 private:
  const kernels::CpuQueue* before_;
};

/// Calls body.operator()<T>(queue) for the device and type of `like`; on `meta` nothing is called. `name` is the
/// operation's, for traces and errors.
template <class Body>
void dispatch(const char* name, const Tensor& like, Body&& body) {
  if (like.device() == Device::meta) return;
  const TraceScope trace(name);
  switch (like.dtype()) {
    case DType::f32:
      return std::forward<Body>(body).template operator()<float>(cpu_queue());
    case DType::f64:
      return std::forward<Body>(body).template operator()<double>(cpu_queue());
    default:
      fail("{}: there is no {} implementation for {}", name, name_of(like.device()), name_of(like.dtype()));
  }
}

}  // namespace unfurl
