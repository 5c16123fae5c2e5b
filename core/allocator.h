// Memory for tensors: one caching allocator a device, with statistics by name.
//
// Freed blocks are kept and reused, so that a training step, whose shapes repeat, asks the system for nothing. They are
// given back before the system is asked for so much that more than a sixteenth over the greatest need so far, or 8 MiB,
// would be held.
#pragma once
#include <cstddef>
#include <map>
#include <mutex>
#include <string>
#include <unordered_map>

#include "core/shape.h"

namespace unfurl {

struct MemoryStatistics {
  std::size_t live = 0;      // bytes in use, each block rounded up as the allocator does
  std::size_t peak = 0;      // the greatest `live` since the last reset
  std::size_t reserved = 0;  // live and cached
  std::map<std::string, std::size_t> live_by_name;
  std::map<std::string, std::size_t> at_peak_by_name;  // who held what at the peak
};

/// Allocations of this thread are booked under this name until the end of the scope: "activations", "gradients", ...
class MemoryName {
 public:
  explicit MemoryName(const char* name);
  ~MemoryName();
  MemoryName(const MemoryName&) = delete;
  MemoryName& operator=(const MemoryName&) = delete;
  static const char* current();

 private:
  const char* before_;
};

class Allocator {
 public:
  static Allocator& of(Device device);

  /// At least `bytes` bytes, 64-byte aligned, uninitialised. Throws Error saying what was asked, what is held and by
  /// whom where the system has no more. On `meta` the address means nothing and must not be read.
  void* allocate(std::size_t bytes);
  void free(void* memory) noexcept;

  MemoryStatistics statistics() const;
  /// The peak starts again from what is live now.
  void reset_peak();
  /// Gives cached blocks back to the system.
  void trim();

 private:
  explicit Allocator(Device device) : device_(device) {}
  void trim_locked() noexcept;
  void* system_allocate(std::size_t bytes);
  void system_free(void* memory) noexcept;
  std::string holders() const;

  struct Block {
    std::size_t bytes;
    const char* name;
  };
  const Device device_;
  mutable std::mutex mutex_;
  std::unordered_map<void*, Block> live_;
  std::multimap<std::size_t, void*> cached_;
  std::size_t live_bytes_ = 0, peak_ = 0, greatest_live_ = 0, cached_bytes_ = 0;
  std::map<std::string, std::size_t> by_name_, at_peak_;
  std::uintptr_t next_meta_ = 64;
};

}  // namespace unfurl
