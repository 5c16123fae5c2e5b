// The devices of this program: which of them it was built with, which can be used here, and the queue of each.
#pragma once
#include <cstddef>
#include <functional>
#include <string>
#include <utility>

#include "core/error.h"
#include "core/shape.h"
#include "kernels/device/runtime.h"

namespace unfurl {

/// Why `device` cannot be used here, as one line: it was not built in, or a driver, library or GPU is missing or too
/// old. "" where it can. Throws UserError where what the environment asks of it is a mistake.
std::string why_unusable(Device device);

/// The same for who computes products of matrices there, as all models do: cuBLASLt may be missing too.
std::string why_no_models(Device device);

/// `cuda` where there is a GPU that can be used for models, else `cpu`.
Device best_device();

/// Whether this program was built with kernels for GPUs.
bool built_for_gpus();

/// The GPUs that this process sees, as one text: processes with the same text share them. "" where there is none.
std::string visible_gpus();
/// This process computes on the `number`-th of them, from 0, not on the first. Before a GPU is used.
void choose_gpu(int number);

/// What the driver says of a device that can be used and runs CUDA kernels.
kernels::DeviceProperties properties_of(Device device);

/// The queue on which all kernels and copies of a device run, made when it is first asked for. Throws Error with
/// why_unusable().
template <class Queue>
const Queue& device_queue();

/// What this thread queues on a device of this kind goes to `queue`, and not to the device's own, until the end of the
/// scope. No memory may be asked for or freed meanwhile that both work on: it is in order with the device's queue.
template <class Queue>
class DeviceQueueScope {
 public:
  explicit DeviceQueueScope(const Queue& queue);
  ~DeviceQueueScope();
  DeviceQueueScope(const DeviceQueueScope&) = delete;
  DeviceQueueScope& operator=(const DeviceQueueScope&) = delete;

 private:
  const Queue* before_;
};

/// Calls body(queue) for a device that runs CUDA kernels.
template <class Body>
void on_device(Device device, [[maybe_unused]] Body&& body) {
#if defined(UNFURL_HOST_CUDA)
  if (device == Device::host_cuda) return std::forward<Body>(body)(device_queue<kernels::HostCudaQueue>());
#endif
#if defined(UNFURL_CUDA)
  if (device == Device::cuda) return std::forward<Body>(body)(device_queue<kernels::CudaQueue>());
#endif
  fail("{}", why_unusable(device));
}

/// Until all that was queued on the device is done; the CPU never has anything queued.
void synchronize(Device device);

/// Memory from the device's driver, 256-byte aligned, which all that is queued from now on may use. Throws
/// std::exception where there is none. May be called while a graph is captured, and is not part of it.
void* device_allocate(Device device, std::size_t bytes);
/// Gives it back; waits until all that was queued is done.
void device_free(Device device, void* memory) noexcept;

/// Memory of the host from which a device copies without waiting for the host.
class PinnedMemory {
 public:
  PinnedMemory(Device device, std::size_t bytes);
  ~PinnedMemory();
  PinnedMemory(const PinnedMemory&) = delete;
  PinnedMemory& operator=(const PinnedMemory&) = delete;
  std::byte* data() const { return memory_; }

 private:
  Device device_;
  std::byte* memory_ = nullptr;
};

/// A moment in a device's work.
class Event {
 public:
  /// A moment that has passed.
  Event() = default;
  /// Now: when all that was queued so far is done.
  explicit Event(Device device);
  void wait() const {
    if (wait_ != nullptr) wait_();
  }

 private:
  std::function<void()> wait_;
};

/// Work of a device that is queued again and again at the price of one launch.
class Graph {
 public:
  /// Nothing.
  Graph() = default;
  /// What work() queues on `device`, which is not run. What it reads and writes must stay where it is; its temporary
  /// tensors may go, as their memory is kept for graphs alone. work() must neither wait for the device nor read from
  /// it.
  Graph(Device device, const std::function<void()>& work);

  bool empty() const { return launch_ == nullptr; }
  void launch() const { launch_(); }

 private:
  std::function<void()> launch_;
};

}  // namespace unfurl
