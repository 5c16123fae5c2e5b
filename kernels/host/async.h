// Inside the engine: asynchronous copies and products between their issue and their completion.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/device/tile_map.h"
#include "kernels/host/copies.h"
#include "kernels/host/engine.h"

namespace unfurl::kernels::host {

class Runner;

/// What one thread has in flight, in groups: cp.async copies, and products of its warpgroup.
struct AsyncQueue {
  struct Copy {
    AsyncCopy what;
    bool landed;
    CallSite site;
  };
  struct Product {
    float* d;
    int columns;
    std::uint64_t a, b;
    bool add;
    bool first;  // in flight on these sums: `before` holds what they were
    float before[64];
    CallSite site;
  };
  static constexpr unsigned kCopies = 256, kGroups = 32, kProducts = 64;
  Copy copies[kCopies];          // a ring
  unsigned first = 0, last = 0;  // of those not waited for
  unsigned group_ends[kGroups];  // `last` at each commit
  unsigned groups = 0;
  Product products[kProducts];
  unsigned product_count = 0;
  unsigned product_group_ends[kGroups];
  unsigned product_groups = 0;

  void clear() { first = last = groups = product_count = product_groups = 0; }
};

struct MBarrier {
  std::uint32_t address;
  std::uint32_t arrivals, pending;  // of each phase; still to come in this one
  std::int64_t bytes;               // expected and not copied yet
  unsigned phase;
  CallSite site;
  std::uint64_t order[2];  // ThreadSanitizer's synchronisation cells, by parity

  void end_phase_if_complete() {
    if (pending > 0 || bytes != 0) return;
    ++phase;
    pending = arrivals;
  }
};

struct BulkCopy {
  std::uint32_t to;
  TileMapFields map;
  std::int64_t row, column;
  std::uint32_t barrier;
  CallSite site;

  std::size_t bytes() const { return static_cast<std::size_t>(map.tile_rows) * kTileColumns * 2; }
};

/// Bulk copies and mbarriers of a block.
struct BulkCopies {
  static constexpr std::size_t kInFlight = 64, kBarriers = 64;
  std::vector<BulkCopy> in_flight;
  std::vector<MBarrier> barriers;

  void clear() {
    in_flight.clear();
    barriers.clear();
    in_flight.reserve(kInFlight);  // nothing is allocated on a fiber
    barriers.reserve(kBarriers);
  }
  /// The oldest, or a random one.
  void land_one(Runner& runner);
};

}  // namespace unfurl::kernels::host
