#include "core/allocator.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <utility>

#include "core/device.h"

namespace unfurl {
namespace {

thread_local const char* current_name = "other";

constexpr std::size_t kHugePage = std::size_t{2} << 20;
constexpr std::size_t kSlack = std::size_t{8} << 20;

/// Rounds up to a 64th of the power of two below, so that nearly equal sizes share blocks.
std::size_t rounded(std::size_t bytes, std::size_t least) {
  bytes = std::max(bytes, least);
  const std::size_t step = std::max(least, std::bit_floor(bytes) / 64);
  return (bytes + step - 1) / step * step;
}

double mib(std::size_t bytes) { return static_cast<double>(bytes) / (1 << 20); }

}  // namespace

MemoryName::MemoryName(const char* name) : before_(current_name) { current_name = name; }
MemoryName::~MemoryName() { current_name = before_; }
const char* MemoryName::current() { return current_name; }

Allocator& Allocator::of(Device device) {
  // Never destroyed: tensors in static variables may be freed later than any static allocator.
  static auto* cpu = new Allocator(Device::cpu);
  static auto* meta = new Allocator(Device::meta);
  static auto* host_cuda = new Allocator(Device::host_cuda);
  static auto* cuda = new Allocator(Device::cuda);
  switch (device) {
    case Device::cpu:
      return *cpu;
    case Device::meta:
      return *meta;
    case Device::host_cuda:
      return *host_cuda;
    default:
      return *cuda;
  }
}

void* Allocator::system_allocate(std::size_t bytes) {
  if (device_ == Device::meta) {
    void* address = reinterpret_cast<void*>(next_meta_);  // NOLINT(performance-no-int-to-ptr): never read or written
    next_meta_ += bytes;
    return address;
  }
  if (runs_cuda(device_)) {
    try {
      return device_allocate(device_, bytes);
    } catch (const std::exception& error) {
      refusal_ = fmt::format(" ({})", error.what());
      return nullptr;
    }
  }
  if (bytes < kHugePage) return std::aligned_alloc(64, bytes);
  void* memory = std::aligned_alloc(kHugePage, (bytes + kHugePage - 1) / kHugePage * kHugePage);
  if (memory != nullptr) ::madvise(memory, bytes, MADV_HUGEPAGE);
  return memory;
}

void Allocator::system_free(void* memory) noexcept {
  if (runs_cuda(device_)) device_free(device_, memory);
  if (device_ == Device::cpu) std::free(memory);
}

/// A cached block of at least `size` bytes, which becomes its size; null where there is none that fits.
void* Allocator::take(Cache& cache, std::size_t& cached, std::size_t& size) {
  const auto found = cache.lower_bound(size);
  if (found == cache.end() || found->first > size + size / 8) return nullptr;
  void* const memory = found->second;
  size = found->first;
  cache.erase(found);
  cached -= size;
  return memory;
}

void* Allocator::allocate(std::size_t bytes) {
  const std::lock_guard lock(mutex_);
  std::size_t size = rounded(bytes, runs_cuda(device_) ? 256 : 64);
  void* memory = for_graphs_ ? take(cached_for_graphs_, graph_bytes_, size) : nullptr;
  if (memory == nullptr) memory = take(cached_, cached_bytes_, size);
  if (memory == nullptr) {
    // To give memory back waits for the device, which is no part of a graph.
    const std::size_t wanted = live_bytes_ + cached_bytes_ + size;
    if (!captured_ && wanted > greatest_live_ + std::max(greatest_live_ / 16, kSlack)) trim_locked();
    memory = system_allocate(size);
    if (memory == nullptr && !captured_) {
      trim_locked();
      memory = system_allocate(size);
    }
    if (memory == nullptr) {
      fail(
          "out of memory on {}: asked for {:.1f} MiB for {}, {:.1f} MiB are held ({}); use smaller batches or a "
          "smaller model{}",
          name_of(device_), mib(size), current_name, mib(live_bytes_), holders(), refusal_);
    }
  }
  if (for_graphs_) of_graphs_.insert(memory);
  if (device_ == Device::host_cuda) {  // NaNs, so that what a kernel reads before it was written shows
    on_device(device_, [&](const auto& queue) { queue.fill(memory, 0xff, size); });
  }
  live_[memory] = {size, current_name};
  live_bytes_ += size;
  by_name_[current_name] += size;
  greatest_live_ = std::max(greatest_live_, live_bytes_);
  if (live_bytes_ > peak_) {
    peak_ = live_bytes_;
    at_peak_ = by_name_;
  }
  return memory;
}

void Allocator::free(void* memory) noexcept {
  const std::lock_guard lock(mutex_);
  const auto found = live_.find(memory);
  if (found == live_.end()) return;
  const Block block = found->second;
  live_.erase(found);
  live_bytes_ -= block.bytes;
  by_name_[block.name] -= block.bytes;
  const bool of_graph = of_graphs_.contains(memory);
  (of_graph ? cached_for_graphs_ : cached_).emplace(block.bytes, memory);
  (of_graph ? graph_bytes_ : cached_bytes_) += block.bytes;
}

void Allocator::trim_locked() noexcept {
  for (const auto& [bytes, memory] : cached_) system_free(memory);
  cached_.clear();
  cached_bytes_ = 0;
}

void Allocator::trim() {
  const std::lock_guard lock(mutex_);
  trim_locked();
}

Allocator::GraphMemoryScope::GraphMemoryScope(Allocator& allocator, bool captured) : allocator_(allocator) {
  const std::lock_guard lock(allocator.mutex_);
  allocator.for_graphs_ = true;
  allocator.captured_ = captured;
  ++allocator.graphs_;
}

Allocator::GraphMemoryScope::~GraphMemoryScope() {
  const std::lock_guard lock(allocator_.mutex_);
  allocator_.for_graphs_ = allocator_.captured_ = false;
  allocator_.release_graph();
}

std::shared_ptr<const void> Allocator::keep_graph_memory() {
  const std::lock_guard lock(mutex_);
  ++graphs_;
  return {this, [](Allocator* allocator) {
            const std::lock_guard released(allocator->mutex_);
            allocator->release_graph();
          }};
}

/// With the last graph its memory is memory like any other.
void Allocator::release_graph() noexcept {
  if (--graphs_ > 0) return;
  of_graphs_.clear();
  cached_.merge(cached_for_graphs_);
  cached_bytes_ += std::exchange(graph_bytes_, 0);
}

void Allocator::reset_peak() {
  const std::lock_guard lock(mutex_);
  peak_ = live_bytes_;
  at_peak_ = by_name_;
}

MemoryStatistics Allocator::statistics() const {
  const std::lock_guard lock(mutex_);
  return {live_bytes_, peak_, live_bytes_ + cached_bytes_ + graph_bytes_, by_name_, at_peak_};
}

std::string Allocator::holders() const {
  std::string text;
  for (const auto& [name, bytes] : by_name_) {
    if (bytes > 0) text += fmt::format("{}{} {:.1f} MiB", text.empty() ? "" : ", ", name, mib(bytes));
  }
  return text;
}

}  // namespace unfurl
