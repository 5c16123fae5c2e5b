// A stream of random choices for one item of a corpus: a pure function of (seed, purpose, item), so an item comes out
// the same whatever was made before it.
#pragma once
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "kernels/philox.h"

namespace unfurl::train {

class Draw {
 public:
  Draw(std::uint64_t seed, std::uint32_t purpose, std::uint64_t item) : key_{seed, purpose, 0}, index_(item << 20) {}

  std::uint32_t bits() {
    if (left_ == 0) {
      block_ = philox(key_, index_++);
      left_ = 4;
    }
    return block_[--left_];
  }
  /// Uniform in [0, bound); 0 where bound is 0.
  std::size_t below(std::size_t bound) {
    return static_cast<std::size_t>((std::uint64_t{bits()} * static_cast<std::uint32_t>(bound)) >> 32);
  }
  /// Uniform in [low, high].
  std::size_t between(std::size_t low, std::size_t high) { return low + below(high - low + 1); }
  bool chance(double probability) { return bits() * 0x1p-32 < probability; }

  /// One of a list that is not empty.
  template <class List>
  const auto& pick(const List& list) {
    return list[below(std::size(list))];
  }
  template <class T>
  void shuffle(std::vector<T>& list) {
    for (std::size_t i = list.size(); i > 1; --i) std::swap(list[i - 1], list[below(i)]);
  }

 private:
  PhiloxKey key_;
  std::uint64_t index_;
  std::array<std::uint32_t, 4> block_{};
  int left_ = 0;
};

}  // namespace unfurl::train
