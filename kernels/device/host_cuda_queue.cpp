#include <unistd.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <exception>
#include <mutex>
#include <new>
#include <stdexcept>
#include <thread>
#include <utility>

#include "kernels/device/runtime.h"
#include "kernels/host/engine.h"
#include "kernels/thread_pool.h"

namespace unfurl::kernels {
namespace {

constexpr std::align_val_t kAlignment{256};

// NaNs, so that what a kernel reads before it was written shows. MemorySanitizer knows better by itself.
void poison([[maybe_unused]] void* memory, [[maybe_unused]] std::size_t bytes) {
#if defined(__has_feature)
#if __has_feature(memory_sanitizer)
  return;
#endif
#endif
  std::memset(memory, 0xff, bytes);
}

std::atomic<bool> a_queue_was_made{false};

}  // namespace

/// Work that waits to be waited for, in order. Events share it, as they may outlive their queue.
class HostCudaQueue::Late {
 public:
  void add(std::function<void()> work) {
    const std::lock_guard lock(mutex_);
    work_.push_back(std::move(work));
    ++added_;
  }
  /// The first `count` that were ever added. Work that fails is gone, and what is behind it waits on. Nothing is locked
  /// while work runs: it may wait for work of another queue, which waits for earlier work of this.
  void run(std::size_t count) {
    std::unique_lock lock(mutex_);
    while (done_ < count) {
      if (runner_ == std::this_thread::get_id()) return;  // asked for by this queue's own work, which comes after it
      if (runner_ != std::thread::id()) {
        changed_.wait(lock);
        continue;
      }
      const std::function<void()> work = std::move(work_.front());
      work_.pop_front();
      runner_ = std::this_thread::get_id();
      lock.unlock();
      std::exception_ptr failed;
      try {
        work();
      } catch (...) {
        failed = std::current_exception();
      }
      lock.lock();
      runner_ = {};
      ++done_;
      changed_.notify_all();
      if (failed) std::rethrow_exception(failed);
    }
  }
  /// Any thread may ask, while work runs too.
  std::size_t done() const { return done_; }
  std::size_t added() const {
    const std::lock_guard lock(mutex_);
    return added_;
  }
  bool empty() const {
    const std::lock_guard lock(mutex_);
    return work_.empty();
  }

 private:
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::thread::id runner_;  // of the work that runs, if any
  std::deque<std::function<void()>> work_;
  std::size_t added_ = 0;
  std::atomic<std::size_t> done_{0};
};

bool HostCudaQueue::runs_late() const {
  const host::Streams streams = host::settings().streams;
  if (streams == host::Streams::late || (streams == host::Streams::others_first && first_)) return true;
  if (!late_->empty()) synchronize();  // of a scope of other settings
  return false;
}

void HostCudaQueue::defer(std::function<void()> work) const { late_->add(std::move(work)); }

void HostCudaQueue::synchronize() const { late_->run(late_->added()); }

void HostCudaQueue::Event::wait() const {
  if (moment_ != nullptr && moment_->late != nullptr) moment_->late->run(moment_->count);
}

bool HostCudaQueue::Event::done() const {
  return moment_ == nullptr || moment_->late == nullptr || moment_->late->done() >= moment_->count;
}

void HostCudaQueue::wait(const Event& event) const {
  if (event.moment_ == nullptr || event.moment_->late == late_ || event.moment_->late == nullptr) return;
  submit([late = event.moment_->late, count = event.moment_->count] { late->run(count); });
}

HostCudaQueue::HostCudaQueue(int device, std::size_t shared_per_block)
    : late_(std::make_shared<Late>()), first_(!a_queue_was_made.exchange(true)), shared_per_block_(shared_per_block) {
  if (device != 0) throw std::runtime_error("cuda: there is no device " + std::to_string(device) + ", only device 0");
  host::settings();  // what is wrong with them is said before any kernel runs
}
HostCudaQueue::~HostCudaQueue() {
  try {
    synchronize();
  } catch (const std::exception&) {  // work whose result nobody waits for
  }
  scratch_of_graphs_.push_back(scratch_);
  for (void* memory : scratch_of_graphs_) ::operator delete(memory, kAlignment);
}

DeviceProperties HostCudaQueue::properties(int) {
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  DeviceProperties out;
  out.name = "CPU executing CUDA";
  out.major = 9;
  out.multiprocessors = ThreadPool::available_cores();
  out.memory = static_cast<std::size_t>(::sysconf(_SC_PHYS_PAGES)) * page;
  out.shared_per_block = 227 << 10;
  return out;
}

std::size_t HostCudaQueue::free_memory() const {
  return static_cast<std::size_t>(::sysconf(_SC_AVPHYS_PAGES)) * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
}

void* HostCudaQueue::allocate(std::size_t bytes) const {
  void* memory = ::operator new(bytes, kAlignment, std::nothrow);
  if (memory == nullptr) throw std::runtime_error("cuda: out of memory: " + std::to_string(bytes >> 20) + " MiB asked");
  poison(memory, bytes);
  return memory;
}

void HostCudaQueue::free(void* memory) const {
  if (runs_late()) return defer([memory] { ::operator delete(memory, kAlignment); });
  ::operator delete(memory, kAlignment);
}

void* HostCudaQueue::allocate_host(std::size_t bytes) { return ::operator new(bytes, kAlignment); }
void HostCudaQueue::free_host(void* memory) { ::operator delete(memory, kAlignment); }

void HostCudaQueue::copy(void* to, const void* from, std::size_t bytes) const {
  if (bytes == 0) return;
  submit([=] { std::memcpy(to, from, bytes); });
}

void HostCudaQueue::fill(void* memory, unsigned char value, std::size_t bytes) const {
  if (bytes == 0) return;
  submit([=] { std::memset(memory, value, bytes); });
}

void* HostCudaQueue::scratch(std::size_t bytes) const {
  if (bytes > scratch_bytes_) {
    if (capture_ != nullptr) {
      throw std::runtime_error("cuda: scratch memory grows while a graph is captured: run the work once before");
    }
    if (std::exchange(scratch_in_graph_, false)) {
      scratch_of_graphs_.push_back(std::exchange(scratch_, nullptr));
    } else {
      free(std::exchange(scratch_, nullptr));
    }
    scratch_bytes_ = 0;
    scratch_ = ::operator new(bytes, kAlignment);
    scratch_bytes_ = bytes;
  }
  scratch_in_graph_ = scratch_in_graph_ || capture_ != nullptr;
  submit([memory = scratch_, size = scratch_bytes_] { poison(memory, size); });
  return scratch_;
}

HostCudaQueue::Event HostCudaQueue::record() const {
  Event event;
  event.moment_ = std::make_shared<Event::Moment>();
  note(*event.moment_);
  return event;
}

void HostCudaQueue::record(Event& event) const {
  if (event.moment_ == nullptr) event.moment_ = std::make_shared<Event::Moment>();
  if (capture_ == nullptr) return note(*event.moment_);
  capture_->push_back([moment = event.moment_](const HostCudaQueue& launching) {
    Event again;
    again.moment_ = moment;
    launching.record(again);
  });
}

/// Now.
void HostCudaQueue::note(Event::Moment& moment) const {
  moment.late = late_;
  moment.count = late_->added();
  moment.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void HostCudaQueue::begin_capture() const {
  if (capture_ != nullptr) throw std::runtime_error("cuda: a graph is being captured already");
  capture_ = std::make_unique<std::vector<std::function<void(const HostCudaQueue&)>>>();
}

HostCudaQueue::Graph HostCudaQueue::end_capture() const {
  if (capture_ == nullptr) throw std::runtime_error("cuda: no graph is being captured");
  Graph graph;
  graph.work_ = std::move(*capture_);
  capture_.reset();
  return graph;
}

void HostCudaQueue::launch(const Graph& graph) const {
  for (const auto& work : graph.work_) work(*this);
}

}  // namespace unfurl::kernels
