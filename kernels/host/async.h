// Inside the engine: asynchronous copies and products between their issue and their completion.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/host/copies.h"
#include "kernels/host/engine.h"

namespace unfurl::kernels::host {

class Runner;

/// cp.async copies of one thread, in groups.
struct AsyncQueue {
  struct Copy {
    AsyncCopy what;
    bool landed;
    CallSite site;
  };
  static constexpr unsigned kCopies = 256, kGroups = 32;
  Copy copies[kCopies];          // a ring
  unsigned first = 0, last = 0;  // of those not waited for
  unsigned group_ends[kGroups];  // `last` at each commit
  unsigned groups = 0;

  void clear() { first = last = groups = 0; }
};

/// Bulk copies of a block (Hopper).
struct BulkCopies {
  std::vector<int> in_flight;
  void clear() { in_flight.clear(); }
  void land_one(Runner&) {}
};

}  // namespace unfurl::kernels::host
