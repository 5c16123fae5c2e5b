// Gradients of a global batch, summed in an order that no number of ranks changes.
//
// A global batch is S slots. Each slot's gradient starts from zero and accumulates that slot's micro-batches in order;
// the slots' gradients are then added along a fixed binary tree: (0 + 1) + (2 + 3), ... A rank that owns a contiguous
// part of the slots owns a subtree.
#pragma once
#include <array>
#include <vector>

#include "core/comm/shards.h"
#include "core/parameters.h"

namespace unfurl::train {

class SlotTree {
 public:
  /// `slots` is a power of two. Takes log2(slots) + 1 gradient buffers in all, of which the parameters hold one.
  SlotTree(Parameters& parameters, Index slots);

  /// Called when the attached gradients hold a whole slot's; afterwards they are zero, for the next slot. After the
  /// last slot they hold the sum of all.
  void finish_slot();

  /// Whether the slot that is under way is the last.
  bool last() const { return free_.empty(); }
  /// Of the last slot, before finish_slot(), as soon as the attached gradients hold this part of it: the sum of all
  /// slots there, flat, which nothing touches any more. Each part once, and then all of them.
  Tensor finish_part(ParameterGroup group, const Range& part);

 private:
  using Buffers = std::array<Tensor, 2>;
  Buffers attached() const;
  Parameters& parameters_;
  std::vector<Buffers> levels_;  // partial sums of 2^i slots; undefined where there is none
  std::vector<Buffers> free_;    // zero
  bool in_parts_ = false;        // the last slot is finished so
};

}  // namespace unfurl::train
