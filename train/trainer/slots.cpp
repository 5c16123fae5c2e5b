#include "train/trainer/slots.h"

#include <bit>
#include <utility>

#include "core/dispatch.h"
#include "kernels/elementwise.h"

namespace unfurl::train {
namespace {

bool defined(const std::array<Tensor, 2>& buffers) { return buffers[0].defined() || buffers[1].defined(); }

/// left += right, right = 0.
void merge(const Tensor& left, const Tensor& right) {
  dispatch_sums("add", left, [&]<class T>(const auto& queue) {
    const Index count = left.numel();
    kernels::add_scaled(queue, left.data<T>(), static_cast<const T*>(right.data<T>()), T{1}, count);
    kernels::fill(queue, kernels::Matrix<T>{right.data<T>(), count}, T{0}, 1, count);
  });
}
void merge(const std::array<Tensor, 2>& left, const std::array<Tensor, 2>& right) {
  for (std::size_t i = 0; i < 2; ++i) {
    if (left[i].defined()) merge(left[i], right[i]);
  }
}

}  // namespace

SlotTree::SlotTree(Parameters& parameters, Index slots) : parameters_(parameters) {
  require(std::has_single_bit(static_cast<std::uint64_t>(slots)), "SlotTree: {} slots are not a power of two", slots);
  const auto levels = static_cast<std::size_t>(std::countr_zero(static_cast<std::uint64_t>(slots)));
  levels_.resize(levels);
  const MemoryName memory("gradients");
  for (std::size_t i = 0; i < levels; ++i) {
    Buffers zeros;
    for (std::size_t group = 0; group < 2; ++group) {
      const Tensor& like = parameters.gradients(static_cast<ParameterGroup>(group));
      if (like.defined()) zeros[group] = Tensor::zeros(like.shape(), like.dtype(), like.device());
    }
    free_.push_back(zeros);
  }
}

SlotTree::Buffers SlotTree::attached() const {
  return {parameters_.gradients(ParameterGroup::decayed), parameters_.gradients(ParameterGroup::undecayed)};
}

Tensor SlotTree::finish_part(ParameterGroup group, const Range& part) {
  require(last(), "SlotTree: a part of a slot that is not the last");
  in_parts_ = true;
  const auto piece = [&](const Buffers& buffers) {
    return buffers[static_cast<std::size_t>(group)].span_of(part.begin, {part.size()});
  };
  Tensor sum = piece(attached());
  for (const Buffers& level : levels_) {
    merge(piece(level), sum);
    sum = piece(level);
  }
  return sum;
}

void SlotTree::finish_slot() {
  const bool in_parts = std::exchange(in_parts_, false);
  if (levels_.empty()) return;
  // As in binary counting: equal partial sums merge, the earlier slots on the left. With the last slot every level is
  // taken, no buffer is free, and the slot's own gradients merge where they are.
  const bool all_taken = last();
  Buffers carry;
  if (all_taken) {
    carry = attached();
  } else {
    const Buffers zeros = free_.back();
    free_.pop_back();
    carry = parameters_.swap_gradients(zeros);
  }
  for (Buffers& level : levels_) {
    if (!defined(level)) {
      level = carry;
      return;
    }
    if (!in_parts) merge(level, carry);
    if (!all_taken || &level != &levels_.front()) free_.push_back(carry);
    carry = std::exchange(level, Buffers{});
  }
  free_.push_back(parameters_.swap_gradients(carry));
}

}  // namespace unfurl::train
