#include "core/device.h"

#include <stdexcept>
#include <type_traits>
#include <utility>

#include "core/allocator.h"
#include "kernels/matmul_choices.h"

namespace unfurl {
namespace {

/// Of those that this process sees.
int gpu_number = 0;

#if defined(UNFURL_HOST_CUDA) || defined(UNFURL_CUDA)
/// What is captured into a graph is queued for `work`; the memory it takes comes by `memory`.
template <class Queue>
struct Queues {
  explicit Queues(int device) : work(device), memory(device) {}
  Queue work, memory;

  /// Never destroyed: tensors in static variables may be freed later than any static queue.
  static const Queues& get() {
    static const Queues* const queues = made();
    [[maybe_unused]] static thread_local const bool ready = (queues->work.use_in_this_thread(), true);
    return *queues;
  }

 private:
  static const Queues* made() {
    try {
      return new Queues(std::is_same_v<Queue, kernels::HostCudaQueue> ? 0 : gpu_number);
    } catch (const std::invalid_argument& error) {  // of the environment
      user_error("{}", error.what());
    } catch (const std::exception& error) {  // a driver's: one of ours
      fail("{}", error.what());
    }
  }
};
#endif

#if defined(UNFURL_HOST_CUDA) || defined(UNFURL_CUDA)
/// Of a DeviceQueueScope.
template <class Queue>
thread_local const Queue* instead_of_work = nullptr;
#endif

template <class Body>
void on_memory_queue(Device device, [[maybe_unused]] Body&& body) {
#if defined(UNFURL_HOST_CUDA)
  if (device == Device::host_cuda) return body(Queues<kernels::HostCudaQueue>::get().memory);
#endif
#if defined(UNFURL_CUDA)
  if (device == Device::cuda) return body(Queues<kernels::CudaQueue>::get().memory);
#endif
  fail("{}", why_unusable(device));
}

}  // namespace

#if defined(UNFURL_HOST_CUDA) || defined(UNFURL_CUDA)
template <class Queue>
const Queue& device_queue() {
  const Queue* const instead = instead_of_work<Queue>;
  return instead != nullptr ? *instead : Queues<Queue>::get().work;
}
template <class Queue>
DeviceQueueScope<Queue>::DeviceQueueScope(const Queue& queue)
    : before_(std::exchange(instead_of_work<Queue>, &queue)) {}
template <class Queue>
DeviceQueueScope<Queue>::~DeviceQueueScope() {
  instead_of_work<Queue> = before_;
}
#endif
#if defined(UNFURL_HOST_CUDA)
template const kernels::HostCudaQueue& device_queue();
template class DeviceQueueScope<kernels::HostCudaQueue>;
#endif
#if defined(UNFURL_CUDA)
template const kernels::CudaQueue& device_queue();
template class DeviceQueueScope<kernels::CudaQueue>;
#endif

std::string why_unusable(Device device) {
  if (!runs_cuda(device)) return {};
#if !defined(UNFURL_HOST_CUDA)
  if (device == Device::host_cuda) {
    return "this program was built without CUDA kernels for the CPU: build it with `cmake --preset host-cuda`";
  }
#endif
#if !defined(UNFURL_CUDA)
  if (device == Device::cuda) {
    return "this program was built without CUDA: build it with `cmake --preset cuda`";
  }
#endif
  try {
    on_memory_queue(device, [](const auto&) {});
    return {};
  } catch (const UserError&) {
    throw;
  } catch (const std::exception& error) {
    return error.what();
  }
}

std::string why_no_models(Device device) {
  std::string why = why_unusable(device);
#if defined(UNFURL_CUDA)
  if (why.empty() && device == Device::cuda) {
    try {
      kernels::cublaslt_version();
    } catch (const std::exception& error) {
      why = error.what();
    }
  }
#endif
  return why;
}

Device best_device() { return why_no_models(Device::cuda).empty() ? Device::cuda : Device::cpu; }

bool built_for_gpus() {
#if defined(UNFURL_CUDA)
  return true;
#else
  return false;
#endif
}

std::string visible_gpus() {
  std::string out;
#if defined(UNFURL_CUDA)
  for (int i = 0; i < kernels::CudaQueue::device_count(); ++i) out += kernels::CudaQueue::properties(i).id + " ";
#endif
  return out;
}

void choose_gpu(int number) { gpu_number = number; }

kernels::DeviceProperties properties_of(Device device) {
  kernels::DeviceProperties out;
  on_device(device, [&](const auto& queue) { out = queue.properties(queue.device()); });
  return out;
}

void synchronize(Device device) {
  if (runs_cuda(device)) on_device(device, [](const auto& queue) { queue.synchronize(); });
}

void* device_allocate(Device device, std::size_t bytes) {
  void* memory = nullptr;
  on_memory_queue(device, [&](const auto& queue) {
    memory = queue.allocate(bytes);
    queue.synchronize();
  });
  return memory;
}

void device_free(Device device, void* memory) noexcept {
  try {
    synchronize(device);
    on_memory_queue(device, [&](const auto& queue) { queue.free(memory); });
  } catch (const std::exception&) {  // the device is lost, and its memory with it
  }
}

PinnedMemory::PinnedMemory(Device device, std::size_t bytes) : device_(device) {
  on_device(device, [&](const auto& queue) { memory_ = static_cast<std::byte*>(queue.allocate_host(bytes)); });
}

PinnedMemory::~PinnedMemory() {
  try {
    on_device(device_, [&](const auto& queue) { queue.free_host(memory_); });
  } catch (const std::exception&) {  // the device is lost
  }
}

Event::Event(Device device) {
  on_device(device, [&](const auto& queue) { wait_ = [event = queue.record()] { event.wait(); }; });
}

Graph::Graph(Device device, const std::function<void()>& work) {
  on_device(device, [&](const auto& queue) {
    Allocator& allocator = Allocator::of(device);
    const Allocator::GraphMemoryScope memory(allocator, true);
    queue.begin_capture();
    try {
      work();
    } catch (...) {
      try {
        queue.end_capture();
      } catch (const std::exception&) {  // the first error says more
      }
      throw;
    }
    launch_ = [&queue, graph = queue.end_capture(), kept = allocator.keep_graph_memory()] { queue.launch(graph); };
  });
}

}  // namespace unfurl
