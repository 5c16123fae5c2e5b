#include "core/allocator.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cstdlib>

namespace unfurl {
namespace {

thread_local const char* current_name = "other";

constexpr std::size_t kHugePage = std::size_t{2} << 20;
constexpr std::size_t kSlack = std::size_t{8} << 20;

/// Rounds up to an eighth of the power of two below, so that nearly equal sizes share blocks: at most 12.5 % more.
std::size_t rounded(std::size_t bytes) {
  bytes = std::max<std::size_t>(bytes, 64);
  const std::size_t step = std::max<std::size_t>(64, std::bit_floor(bytes) / 64);
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
  return device == Device::cpu ? *cpu : *meta;
}

void* Allocator::system_allocate(std::size_t bytes) {
  if (device_ == Device::meta) {
    void* address = reinterpret_cast<void*>(next_meta_);  // NOLINT(performance-no-int-to-ptr): never read or written
    next_meta_ += bytes;
    return address;
  }
  if (bytes < kHugePage) return std::aligned_alloc(64, bytes);
  void* memory = std::aligned_alloc(kHugePage, (bytes + kHugePage - 1) / kHugePage * kHugePage);
  if (memory != nullptr) ::madvise(memory, bytes, MADV_HUGEPAGE);
  return memory;
}

void Allocator::system_free(void* memory) noexcept {
  if (device_ != Device::meta) std::free(memory);
}

void* Allocator::allocate(std::size_t bytes) {
  const std::lock_guard lock(mutex_);
  std::size_t size = rounded(bytes);
  void* memory = nullptr;
  if (const auto found = cached_.lower_bound(size); found != cached_.end() && found->first <= size + size / 8) {
    size = found->first;
    memory = found->second;
    cached_.erase(found);
    cached_bytes_ -= size;
  } else {
    if (live_bytes_ + cached_bytes_ + size > greatest_live_ + std::max(greatest_live_ / 16, kSlack)) trim_locked();
    memory = system_allocate(size);
    if (memory == nullptr) {
      trim_locked();
      memory = system_allocate(size);
    }
    if (memory == nullptr) {
      fail(
          "out of memory on {}: asked for {:.1f} MiB for {}, {:.1f} MiB are held ({}); use smaller batches or a "
          "smaller model",
          name_of(device_), mib(size), current_name, mib(live_bytes_), holders());
    }
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
  cached_.emplace(block.bytes, memory);
  cached_bytes_ += block.bytes;
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

void Allocator::reset_peak() {
  const std::lock_guard lock(mutex_);
  peak_ = live_bytes_;
  at_peak_ = by_name_;
}

MemoryStatistics Allocator::statistics() const {
  const std::lock_guard lock(mutex_);
  return {live_bytes_, peak_, live_bytes_ + cached_bytes_, by_name_, at_peak_};
}

std::string Allocator::holders() const {
  std::string text;
  for (const auto& [name, bytes] : by_name_) {
    if (bytes > 0) text += fmt::format("{}{} {:.1f} MiB", text.empty() ? "" : ", ", name, mib(bytes));
  }
  return text;
}

}  // namespace unfurl
