// Memory for tensors: one caching allocator a device, with statistics by name.
//
// Freed blocks are kept and reused, so that a training step, whose shapes repeat, asks the system for nothing. They are
// given back before the system is asked for so much that more than a sixteenth over the greatest need so far, or 8 MiB,
// would be held. Of a device that runs CUDA kernels, a block may
// be given out again while work on it is still queued: all work of a device is on one queue, and so in order.
#pragma once
#include <cstddef>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <unordered_set>

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

  /// At least `bytes` bytes, 64-byte aligned (256 for CUDA kernels), uninitialised. Throws Error saying what was asked,
  /// what is held and by whom where the system has no more. On `meta` the address means nothing and must not be read.
  void* allocate(std::size_t bytes);
  void free(void* memory) noexcept;

  MemoryStatistics statistics() const;
  /// The peak starts again from what is live now.
  void reset_peak();
  /// Gives cached blocks back to the system.
  void trim();

  /// Graphs share memory among themselves and with nothing else, as a launch may write to it at any time. Until the end
  /// of this scope it is given out: to a graph that is `captured`, or to work whose tensors are all gone before the
  /// next launch.
  class GraphMemoryScope {
   public:
    explicit GraphMemoryScope(Allocator& allocator, bool captured = false);
    ~GraphMemoryScope();
    GraphMemoryScope(const GraphMemoryScope&) = delete;
    GraphMemoryScope& operator=(const GraphMemoryScope&) = delete;

   private:
    Allocator& allocator_;
  };
  /// What a graph holds as long as it may be launched.
  std::shared_ptr<const void> keep_graph_memory();

 private:
  explicit Allocator(Device device) : device_(device) {}
  using Cache = std::multimap<std::size_t, void*>;
  void* take(Cache& cache, std::size_t& cached, std::size_t& size);
  void trim_locked() noexcept;
  void release_graph() noexcept;
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
  Cache cached_, cached_for_graphs_;
  std::unordered_set<void*> of_graphs_;  // blocks, live or cached
  bool for_graphs_ = false, captured_ = false;
  int graphs_ = 0;
  std::string refusal_;  // the last of the device's driver
  std::size_t live_bytes_ = 0, peak_ = 0, greatest_live_ = 0, cached_bytes_ = 0, graph_bytes_ = 0;
  std::map<std::string, std::size_t> by_name_, at_peak_;
  std::uintptr_t next_meta_ = 64;
};

}  // namespace unfurl
