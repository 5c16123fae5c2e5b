#include "train/corpus/top_flavors.h"

#include <algorithm>
#include <limits>

#include "core/error.h"
#include "kernels/matmul.h"

namespace unfurl::train {
namespace {

constexpr Index kTile = 4096;   // flavors
constexpr Index kImages = 512;  // of a product: its result has 8 MiB

/// The best so far of one image. Flavors come in the order of their numbers, so one that equals the last of k good ones
/// ranks behind it.
struct Best {
  std::vector<RankedFlavor> flavors;
  float least = -std::numeric_limits<float>::infinity();

  void prune(std::size_t k) {
    if (flavors.size() <= k) return;
    const auto last = flavors.begin() + static_cast<std::ptrdiff_t>(k) - 1;
    std::nth_element(flavors.begin(), last, flavors.end(), ranks_before);
    least = last->similarity;
    flavors.resize(k);
  }
};

}  // namespace

std::vector<std::vector<RankedFlavor>> top_flavors(kernels::ThreadPool& pool, const float* images, Index image_count,
                                                   const float* flavors, Index flavor_count, Index size, Index k) {
  require(k >= 1 && size >= 1 && image_count >= 0 && flavor_count >= 0 &&
              flavor_count <= std::numeric_limits<std::int32_t>::max(),
          "top_flavors: k {}, size {}, {} images, {} flavors", k, size, image_count, flavor_count);
  const auto most = static_cast<std::size_t>(k);
  const kernels::CpuQueue queue(pool);
  std::vector<float> tile(static_cast<std::size_t>(std::min(kImages, image_count) * std::min(kTile, flavor_count)));
  std::vector<std::vector<RankedFlavor>> all(static_cast<std::size_t>(image_count));
  for (Index first = 0; first < image_count; first += kImages) {
    const Index rows = std::min(kImages, image_count - first);
    std::vector<Best> best(static_cast<std::size_t>(rows));
    for (Index from = 0; from < flavor_count; from += kTile) {
      const Index cols = std::min(kTile, flavor_count - from);
      kernels::matmul(queue, kernels::Matrix<float>{tile.data(), cols},
                      kernels::Matrix<const float>{images + first * size, size}, false,
                      kernels::Matrix<const float>{flavors + from * size, size}, true, rows, cols, size, false);
      pool.parallel_for(rows, [&](Index r) {
        Best& mine = best[static_cast<std::size_t>(r)];
        const float* similarities = tile.data() + r * cols;
        for (Index j = 0; j < cols; ++j) {
          if (similarities[j] > mine.least) {
            mine.flavors.push_back({similarities[j], static_cast<std::int32_t>(from + j)});
          }
        }
        if (mine.flavors.size() > 2 * most) mine.prune(most);
      });
    }
    pool.parallel_for(rows, [&](Index r) {
      Best& mine = best[static_cast<std::size_t>(r)];
      mine.prune(most);
      std::sort(mine.flavors.begin(), mine.flavors.end(), ranks_before);
      all[static_cast<std::size_t>(first + r)] = std::move(mine.flavors);
    });
  }
  return all;
}

}  // namespace unfurl::train
