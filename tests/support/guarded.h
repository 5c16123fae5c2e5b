// A buffer with guard words on both sides, in the memory of a queue's device: a kernel that writes outside of its
// arrays fails its test even where no sanitizer runs.
#pragma once
#include <cstring>
#include <stdexcept>
#include <utility>
#include <vector>

#include "kernels/device/runtime.h"
#include "kernels/queue.h"
#include "kernels/types.h"

namespace unfurl::tests {

/// Bytes that the kernels of a queue can read and write; a copy has bytes of its own.
template <class Queue>
class QueueBytes {
 public:
  QueueBytes(const Queue*, std::size_t count) : bytes_(count) {}
  unsigned char* device() { return bytes_.data(); }
  const unsigned char* device() const { return bytes_.data(); }
  void write(std::size_t at, const void* from, std::size_t count) {
    if (count > 0) std::memcpy(bytes_.data() + at, from, count);
  }
  const std::vector<unsigned char>& read() const { return bytes_; }

 private:
  std::vector<unsigned char> bytes_;
};

#if defined(UNFURL_CUDA)
template <>
class QueueBytes<kernels::CudaQueue> {
 public:
  QueueBytes(const kernels::CudaQueue* queue, std::size_t count)
      : queue_(queue), device_(static_cast<unsigned char*>(queue->allocate(count))), host_(count) {}
  QueueBytes(const QueueBytes& other) : QueueBytes(other.queue_, other.host_.size()) {
    write(0, other.read().data(), host_.size());
  }
  QueueBytes& operator=(QueueBytes other) noexcept {
    std::swap(queue_, other.queue_);
    std::swap(device_, other.device_);
    std::swap(host_, other.host_);
    return *this;
  }
  ~QueueBytes() { queue_->free(device_); }
  unsigned char* device() { return device_; }
  const unsigned char* device() const { return device_; }
  void write(std::size_t at, const void* from, std::size_t count) {
    queue_->copy(device_ + at, from, count);
    queue_->synchronize();
  }
  const std::vector<unsigned char>& read() const {
    queue_->copy(host_.data(), device_, host_.size());
    queue_->synchronize();
    return host_;
  }

 private:
  const kernels::CudaQueue* queue_;
  unsigned char* device_;
  mutable std::vector<unsigned char> host_;
};
#endif

template <class T, class Queue = kernels::CpuQueue>
class Guarded {
 public:
  /// The elements start with every byte 0xff (NaN for floating point), so what a kernel leaves unwritten shows.
  Guarded(const Queue& queue, Index count) : Guarded(&queue, count) {}
  Guarded(const Queue& queue, const std::vector<T>& values) : Guarded(&queue, static_cast<Index>(values.size())) {
    write(values);
  }
  explicit Guarded(Index count) : Guarded(static_cast<const Queue*>(nullptr), count) {}
  explicit Guarded(const std::vector<T>& values) : Guarded(static_cast<Index>(values.size())) { write(values); }

  /// For kernels; for the test too where the device's memory is the process's own.
  T* data() { return reinterpret_cast<T*>(bytes_.device() + kGuard); }
  const T* data() const { return reinterpret_cast<const T*>(bytes_.device() + kGuard); }
  Index size() const { return static_cast<Index>(count_); }
  T& operator[](Index i) { return data()[i]; }
  const T& operator[](Index i) const { return data()[i]; }

  std::vector<T> values() const {
    std::vector<T> out(count_);
    if (count_ > 0) std::memcpy(out.data(), bytes_.read().data() + kGuard, count_ * sizeof(T));
    return out;
  }
  /// Overwrites the first values.size() elements from element `first` on.
  void write(const std::vector<T>& values, Index first = 0) {
    bytes_.write(kGuard + static_cast<std::size_t>(first) * sizeof(T), values.data(), values.size() * sizeof(T));
  }

  /// True where no guard byte was overwritten.
  bool intact() const {
    const std::vector<unsigned char>& bytes = bytes_.read();
    for (std::size_t i = 0; i < kGuard; ++i) {
      if (bytes[i] != 0xa5 || bytes[kGuard + count_ * sizeof(T) + i] != 0xa5) return false;
    }
    return true;
  }

 private:
  static constexpr std::size_t kGuard = 64;

  Guarded(const Queue* queue, Index count)
      : count_(static_cast<std::size_t>(count)), bytes_(queue, count_ * sizeof(T) + 2 * kGuard) {
    std::vector<unsigned char> fresh(count_ * sizeof(T) + 2 * kGuard, 0xff);
    std::memset(fresh.data(), 0xa5, kGuard);
    std::memset(fresh.data() + kGuard + count_ * sizeof(T), 0xa5, kGuard);
    bytes_.write(0, fresh.data(), fresh.size());
  }

  std::size_t count_;
  QueueBytes<Queue> bytes_;
};

}  // namespace unfurl::tests
