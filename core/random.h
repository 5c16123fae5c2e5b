// What random numbers are drawn for. A draw is addressed by (seed, purpose, step, index), see kernels/philox.h; each
// use has a purpose of its own, so that no two ever share numbers.
#pragma once
#include "kernels/philox.h"

namespace unfurl {

enum class Purpose : std::uint32_t {
  initialise = 1,      // step: number of the parameter; index: element / 4
  dropout = 1000,      // + number of the place in the model; step: training step; index: element / 4
  shuffle = 2,         // step: epoch
  source_choice = 3,   // step: epoch
  subword = 4,         // step: epoch
  prefix_dropout = 5,  // step: training step
  soft_prompt = 7,     // index: piece
  sample = 6,          // step: position; index: sample
};

inline PhiloxKey philox_key(std::uint64_t seed, Purpose purpose, std::uint32_t step = 0, std::uint32_t place = 0) {
  return {seed, static_cast<std::uint32_t>(purpose) + place, step};
}

}  // namespace unfurl
