// The one place where an operation meets a backend: it chooses the queue by the tensor's device and the kernel's type
// by the tensor's element type.
#pragma once
#include <utility>

#include "core/device.h"
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

/// A number as an element of T.
template <class T>
T element(double value) {
  if constexpr (std::is_same_v<T, bf16>) {
    return to_bf16(static_cast<float>(value));
  } else {
    return static_cast<T>(value);
  }
}

/// Calls body.operator()<T>(queue) for the device and type of `like`: a CpuQueue with float or double, or the queue of
/// a device that runs CUDA kernels with float or bf16. On `meta` nothing is called. `name` is the operation's, for
/// traces and errors.
template <class Body>
void dispatch(const char* name, const Tensor& like, Body&& body) {
  const Device device = like.device();
  if (device == Device::meta) return;
  const TraceScope trace(name);
  const DType dtype = like.dtype();
  if (device == Device::cpu) {
    if (dtype == DType::f32) return body.template operator()<float>(cpu_queue());
    if (dtype == DType::f64) return body.template operator()<double>(cpu_queue());
  } else if (dtype == DType::f32 || dtype == DType::bf16) {
    return on_device(device, [&](const auto& queue) {
      dtype == DType::f32 ? body.template operator()<float>(queue) : body.template operator()<bf16>(queue);
    });
  }
  fail("{}: there is no {} implementation for {}", name, name_of(device), name_of(dtype));
}

/// The same for tensors of an accumulator type (gradients, masters, an optimiser's state): float, or double on the CPU.
template <class Body>
void dispatch_sums(const char* name, const Tensor& like, Body&& body) {
  require(like.device() == Device::meta || like.dtype() == accumulator(like.dtype()), "{}: sums are not kept in {}",
          name, name_of(like.dtype()));
  dispatch(name, like, [&]<class T>(const auto& queue) {
    if constexpr (!std::is_same_v<T, bf16>) body.template operator()<T>(queue);
  });
}

}  // namespace unfurl
