// What a GPU backend offers beside kernels: memory, copies, events, graphs. Two queues have one interface: CudaQueue, a
// CUDA stream, and HostCudaQueue, which executes the same kernels on the CPU (kernels/host/). This header needs no CUDA
// toolkit, and only a binary built with UNFURL_CUDA contains CudaQueue. core/ can hold either; a .cu is compiled for
// DeviceQueue (kernels/device/device.h).
//
// Work given to a queue runs in order, and for CUDA after the call has returned. What fails throws std::runtime_error
// with one line; what a kernel does wrong on CUDA is thrown by a later call. One thread at a time may use a queue.
#pragma once
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "kernels/types.h"

namespace unfurl::kernels {

struct DeviceProperties {
  std::string name;
  std::string id;            // of this one GPU and no other in the world, or a part of it; "" of the CPU
  int major = 0, minor = 0;  // compute capability
  int multiprocessors = 0;
  std::size_t memory = 0;            // bytes
  std::size_t shared_per_block = 0;  // bytes, the most a kernel can ask for
};

/// Executes kernels on the CPU; memory is the process's own. Work runs at once, or, under host::Streams::late, at the
/// last moment that CUDA permits: when somebody waits for it. What is read, written or freed too early shows then.
/// Under host::Streams::others_first that is the work of the process's first queue, which is the device's, and what
/// others have runs at once: what they do not wait for is not there.
class HostCudaQueue {
  class Late;

 public:
  /// A moment in a queue's work, the last that was recorded; copies share it. Without one it has passed.
  class Event {
   public:
    /// Until what was queued before is done.
    void wait() const;
    /// Whether it is; any thread may ask while none records it.
    bool done() const;

   private:
    friend class HostCudaQueue;
    struct Moment {
      double seconds = 0;
      std::shared_ptr<Late> late;
      std::size_t count = 0;  // of late's work, that was queued before
    };
    std::shared_ptr<Moment> moment_;
  };
  /// What was queued between begin_capture() and end_capture(), to be queued again and again.
  class Graph {
   public:
    bool empty() const { return work_.empty(); }

   private:
    friend class HostCudaQueue;
    std::vector<std::function<void(const HostCudaQueue&)>> work_;
  };

  /// `shared_per_block`: what a kernel may ask for, in bytes, as on an sm_90; on an sm_80 it is 163 KiB.
  explicit HostCudaQueue(int device = 0, std::size_t shared_per_block = 227 << 10);
  ~HostCudaQueue();
  HostCudaQueue(const HostCudaQueue&) = delete;
  HostCudaQueue& operator=(const HostCudaQueue&) = delete;

  static int device_count() { return 1; }
  /// Makes no context on the device: other processes may have it.
  static DeviceProperties properties(int device = 0);
  std::size_t free_memory() const;  // bytes of its device
  /// To be called in every thread before it uses the queue.
  void use_in_this_thread() const {}
  int device() const { return 0; }
  /// What libraries queue their work on.
  void* stream() const { return nullptr; }

  /// At least `bytes` bytes, 256-byte aligned, uninitialised (NaN). Usable by what is queued from now on.
  void* allocate(std::size_t bytes) const;
  /// Gives back what allocate() gave, after what was queued so far. Null is fine.
  void free(void* memory) const;
  /// Host memory from and to which copies are fast and asynchronous.
  static void* allocate_host(std::size_t bytes);
  static void free_host(void* memory);

  /// Between any two memories, of host or device, that do not overlap. Host memory that is not from allocate_host()
  /// must be taken for read only when synchronize() has returned.
  void copy(void* to, const void* from, std::size_t bytes) const;
  void fill(void* memory, unsigned char value, std::size_t bytes) const;

  /// At least `bytes` bytes on the device, 256-byte aligned, uninitialised (NaN); valid for what is queued until the
  /// next call. It grows and is kept; it must not grow while a graph is being captured. What a graph was captured on
  /// stays as long as the queue.
  void* scratch(std::size_t bytes) const;

  /// Bytes, the most that a kernel on this queue can ask for.
  std::size_t shared_per_block() const { return shared_per_block_; }

  /// Until all that was queued is done.
  void synchronize() const;

  Event record() const;
  /// The same of an event that may have been recorded before. In a capture it is recorded by every launch of the graph,
  /// and not now.
  void record(Event& event) const;
  /// What is queued from now on waits for the event as it was recorded last, which another queue may have done: what is
  /// recorded or launched later makes no difference.
  void wait(const Event& event) const;
  static double seconds_between(const Event& before, const Event& after) {
    return after.moment_->seconds - before.moment_->seconds;
  }

  /// What is queued from here on is not run but kept, up to end_capture().
  void begin_capture() const;
  Graph end_capture() const;
  void launch(const Graph& graph) const;

  /// Runs work() now, or when it is waited for, or keeps it for the graph being captured.
  template <class Work>
  void submit(Work&& work) const {
    if (capture_ != nullptr) {
      capture_->push_back([work = std::function<void()>(std::forward<Work>(work))](const HostCudaQueue& launching) {
        launching.submit(work);
      });
    } else if (runs_late()) {
      defer(std::forward<Work>(work));
    } else {
      work();
    }
  }

 private:
  bool runs_late() const;
  void defer(std::function<void()> work) const;
  void note(Event::Moment& moment) const;
  std::shared_ptr<Late> late_;
  const bool first_;  // of the process
  std::size_t shared_per_block_;
  mutable std::unique_ptr<std::vector<std::function<void(const HostCudaQueue&)>>> capture_;
  mutable void* scratch_ = nullptr;
  mutable std::size_t scratch_bytes_ = 0;
  mutable bool scratch_in_graph_ = false;
  mutable std::vector<void*> scratch_of_graphs_;  // before it grew
};

/// Whether the GPU that this thread has chosen can run the kernels of this program (device_code.cu).
bool has_code_for_current_gpu();

/// A CUDA stream. The interface is HostCudaQueue's, which documents it.
class CudaQueue {
 public:
  class Graph {
   public:
    Graph() = default;
    bool empty() const { return executable_ == nullptr; }

   private:
    friend class CudaQueue;
    std::shared_ptr<void> executable_;
  };
  class Event {
   public:
    void wait() const;
    bool done() const;

   private:
    friend class CudaQueue;
    std::shared_ptr<void> event_;
  };

  explicit CudaQueue(int device = 0);
  ~CudaQueue();
  CudaQueue(const CudaQueue&) = delete;
  CudaQueue& operator=(const CudaQueue&) = delete;

  /// 0 where there is no device, or no driver, or one too old.
  static int device_count();
  /// Makes no context on the device: other processes may have it.
  static DeviceProperties properties(int device = 0);
  std::size_t free_memory() const;  // bytes of its device
  void use_in_this_thread() const;

  void* allocate(std::size_t bytes) const;
  void free(void* memory) const;
  static void* allocate_host(std::size_t bytes);
  static void free_host(void* memory);
  void copy(void* to, const void* from, std::size_t bytes) const;
  void fill(void* memory, unsigned char value, std::size_t bytes) const;
  void* scratch(std::size_t bytes) const;
  void synchronize() const;
  Event record() const;
  void record(Event& event) const;
  void wait(const Event& event) const;
  static double seconds_between(const Event& before, const Event& after);
  void begin_capture() const;
  Graph end_capture() const;
  void launch(const Graph& graph) const;

  int device() const { return device_; }
  std::size_t shared_per_block() const { return shared_per_block_; }
  /// The cudaStream_t.
  void* stream() const { return stream_; }

 private:
  int device_;
  std::size_t shared_per_block_ = 0;
  void* stream_ = nullptr;
  mutable void* scratch_ = nullptr;
  mutable std::size_t scratch_bytes_ = 0;
  mutable bool scratch_in_graph_ = false;
  mutable std::vector<void*> scratch_of_graphs_;  // before it grew
  mutable bool capturing_ = false;
};

}  // namespace unfurl::kernels
