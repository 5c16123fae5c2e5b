// How ranks share a flat buffer: each owns a range of whole blocks of 65,536 elements, so that sums over blocks (the
// norm of the gradients) have the same bits on any number of ranks.
#pragma once
#include "kernels/optimizer_step.h"
#include "kernels/types.h"

namespace unfurl {

struct Range {
  Index begin = 0, end = 0;
  Index size() const { return end - begin; }
};

struct Shards {
  Index count = 0;                    // elements of the whole
  int ranks = 1;                      //
  int rank = 0;                       // whose part is own()
  Index block = kernels::kNormBlock;  // elements
  Index turn = 0;                     // below ranks: where there are fewer blocks than ranks, whose turn it is

  Range of(int r) const {
    const Index blocks = (count + block - 1) / block;
    const auto start = [&](Index n) {
      const Index first = (n * blocks + turn) / ranks * block;
      return first < count ? first : count;
    };
    return {start(r), start(Index{r} + 1)};
  }
  Range own() const { return of(rank); }
};

}  // namespace unfurl
