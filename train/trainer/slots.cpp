#include "train/trainer/slots.h"

#include <bit>
#include <utility>

#include "core/dispatch.h"
#include "kernels/elementwise.h"

namespace unfurl::train {
namespace {

bool defined(const std::array<Tensor, 2>& buffers) { return buffers[0].defined() || buffers[1].defined(); }

/// left += right, right = 0.
void merge(const std::array<Tensor, 2>& left, const std::array<Tensor, 2>& right) {
  for (std::size_t i = 0; i < 2; ++i) {
    if (!left[i].defined()) continue;
    dispatch_sums("add", left[i], [&]<class T>(const auto& queue) {
      const Index count = left[i].numel();
      kernels::add_scaled(queue, left[i].data<T>(), static_cast<const T*>(right[i].data<T>()), T{1}, count);
      kernels::fill(queue, kernels::Matrix<T>{right[i].data<T>(), count}, T{0}, 1, count);
    });
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

void SlotTree::finish_slot() {
  if (levels_.empty()) return;
  // As in binary counting: equal partial sums merge, the earlier slots on the left. With the last slot every level is
  // taken, no buffer is free, and the slot's own gradients merge where they are.
  const bool last = free_.empty();
  Buffers carry;
  if (last) {
    carry = {parameters_.gradients(ParameterGroup::decayed), parameters_.gradients(ParameterGroup::undecayed)};
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
    merge(level, carry);
    if (!last || &level != &levels_.front()) free_.push_back(carry);
    carry = std::exchange(level, Buffers{});
  }
  free_.push_back(parameters_.swap_gradients(carry));
}

}  // namespace unfurl::train
