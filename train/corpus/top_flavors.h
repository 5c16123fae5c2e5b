// The flavors nearest to images: a product of matrices with the choice of the best fused into it, tile by tile, so that
// the memory does not grow with the number of flavors.
#pragma once
#include <cstdint>
#include <vector>

#include "kernels/thread_pool.h"
#include "kernels/types.h"

namespace unfurl::train {

struct RankedFlavor {
  float similarity = 0;  // dot product
  std::int32_t flavor = 0;
};

/// The order of ranks: greater similarity first, of equals the lower number.
inline bool ranks_before(const RankedFlavor& a, const RankedFlavor& b) {
  return a.similarity != b.similarity ? a.similarity > b.similarity : a.flavor < b.flavor;
}

/// For each image its min(k, flavors) best flavors in order. images: [image_count, size], flavors: [flavor_count,
/// size], finite. The same bits on any number of threads.
std::vector<std::vector<RankedFlavor>> top_flavors(kernels::ThreadPool& pool, const float* images, Index image_count,
                                                   const float* flavors, Index flavor_count, Index size, Index k);

}  // namespace unfurl::train
