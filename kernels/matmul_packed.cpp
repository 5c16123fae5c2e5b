#include "kernels/matmul_packed.h"

#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

#include "kernels/matmul_kernel.h"

namespace unfurl::kernels {
namespace {

constexpr Index ceil_div(Index a, Index b) { return (a + b - 1) / b; }
constexpr Index round_up(Index a, Index b) { return ceil_div(a, b) * b; }

/// `size` in equal parts of at most `most`, each a multiple of `unit`: their length.
constexpr Index even(Index size, Index most, Index unit) {
  return round_up(ceil_div(size, ceil_div(size, most)), unit);
}

constexpr Index kDepth = 4;        // blocks of k a task takes: all threads work on about the same part of a and b
constexpr Index kTileRows = 1024;  // of a tile of c where b is packed, anew for each tile
constexpr Index kTileCols = 2048;  // where a is
constexpr Index kMostRows = 12;    // register tiles that a tile is high otherwise
constexpr Index kMostCols = 4;     // and wide
constexpr Index kParts = 4;        // a tile is at most this part of a thread's share of what is left
constexpr Index kAlias = 4096;     // bytes; rows this far apart share few sets of the caches

/// Where parts of [0, size) begin and end: large ones first, then smaller, so that all threads end together.
std::vector<Index> tapered(Index size, Index unit, Index shares, Index most) {
  std::vector<Index> ends = {0};
  for (Index left = ceil_div(size, unit); left > 0;) {
    const Index part = std::clamp<Index>(ceil_div(left, shares), 1, most);
    left -= part;
    ends.push_back(std::min(ends.back() + part * unit, size));
  }
  return ends;
}

/// The same for parts of one length.
std::vector<Index> equal(Index size, Index part) {
  std::vector<Index> ends = {0};
  while (ends.back() < size) ends.push_back(std::min(ends.back() + part, size));
  return ends;
}

}  // namespace

template <class T>
void matmul_packed(ThreadPool& pool, Matrix<T> c, Strided<const T> a, Strided<const T> b, Index m, Index n, Index k,
                   bool accumulate) {
  const MatmulKernel<T> kernel = matmul_kernel<T>();
  const Index mr = kernel.mr, nr = kernel.nr, kc = even(k, kernel.kc, 1), blocks = ceil_div(k, kc);
  const bool pack_a = a.col != 1, pack_b = b.col != 1 || b.row * static_cast<Index>(sizeof(T)) % kAlias == 0;

  // A task packs what it reads for itself. Where it packs columns of b, tiles of c are as high as they can be, and
  // where rows of a, as wide, so that little or nothing is packed twice.
  const Index shares = kParts * pool.threads();
  std::vector<Index> rows, cols;
  if (pack_b && !pack_a) {
    rows = equal(m, even(m, kTileRows, mr));
    cols = tapered(n, nr, ceil_div(shares, static_cast<Index>(rows.size()) - 1), kMostCols);
  } else {
    cols = equal(n, even(n, pack_a ? std::max(kTileCols, kernel.nc) : kernel.nc, nr));
    rows = tapered(m, mr, ceil_div(shares, static_cast<Index>(cols.size()) - 1), kMostRows);
  }
  const auto tile_rows = static_cast<Index>(rows.size()) - 1, tiles = tile_rows * (static_cast<Index>(cols.size()) - 1);

  const auto compute = [&](Index block, Index top, Index bottom, Index left, Index right) {
    const Index from = block * kc, length = std::min(kc, k - from);
    const bool add = accumulate || block > 0;
    const T* rows_of_a = a.data + from * a.col;
    const T* rows_of_b = b.data + from * b.row;
    const Index panel_a = round_up(mr * kc, 16) + 16, panels_a = pack_a ? ceil_div(bottom - top, mr) : 0;
    auto* packed_a =
        static_cast<T*>(thread_scratch(static_cast<std::size_t>(panels_a * panel_a + kernel.nc * kc) * sizeof(T)));
    T* packed_b = packed_a + panels_a * panel_a;
    if (pack_a) kernel.pack_rows(packed_a, panel_a, rows_of_a + top, a.col, bottom - top, length);
    for (Index j0 = left; j0 < right; j0 += kernel.nc) {
      const Index j1 = std::min(j0 + kernel.nc, right);
      // Columns from `direct` on are packed: all, or those where a vector would reach beyond the row's end, or none.
      const Index direct = pack_b ? j0 : (j1 - j0) % kernel.lanes == 0 ? j1 : j0 + (j1 - j0) / nr * nr;
      for (Index j = direct; j < j1; j += nr) {
        const Index count = std::min(nr, j1 - j), width = round_up(count, kernel.lanes);
        (b.col == 1 ? kernel.pack_along : kernel.pack_across)(
            packed_b + (j - direct) * length, width, rows_of_b + j * b.col, b.col == 1 ? b.row : b.col, count, length);
      }
      for (Index i = top; i < bottom; i += mr) {
        const Index height = std::min(mr, bottom - i);
        for (Index j = j0; j < j1; j += nr) {
          const Index width = std::min(nr, j1 - j);
          const T* panel = pack_a ? packed_a + (i - top) / mr * panel_a : rows_of_a + i * a.row;
          kernel.run(c.row(i) + j, c.stride, panel, pack_a ? 1 : a.row, pack_a ? mr : 1,
                     j < direct ? rows_of_b + j : packed_b + (j - direct) * length,
                     j < direct ? b.row : round_up(width, kernel.lanes), height, width, length, add);
        }
      }
    }
  };

  // A task is some blocks of k of a tile; it begins when the task of the blocks before has ended, which was handed out
  // a round of tiles earlier.
  std::vector<std::atomic<Index>> done(static_cast<std::size_t>(tiles));
  pool.parallel_for(tiles * ceil_div(blocks, kDepth), [&](Index task) {
    const Index round = task / tiles, tile = task % tiles, row = tile % tile_rows, col = tile / tile_rows;
    std::atomic<Index>& rounds = done[static_cast<std::size_t>(tile)];
    while (rounds.load(std::memory_order_acquire) != round) std::this_thread::yield();
    const struct Mark {  // even where memory runs out: others wait
      std::atomic<Index>& rounds;
      Index next;
      ~Mark() { rounds.store(next, std::memory_order_release); }
    } mark{rounds, round + 1};
    for (Index block = round * kDepth; block < std::min((round + 1) * kDepth, blocks); ++block) {
      compute(block, rows[static_cast<std::size_t>(row)], rows[static_cast<std::size_t>(row) + 1],
              cols[static_cast<std::size_t>(col)], cols[static_cast<std::size_t>(col) + 1]);
    }
  });
}

template void matmul_packed(ThreadPool&, Matrix<float>, Strided<const float>, Strided<const float>, Index, Index, Index,
                            bool);
template void matmul_packed(ThreadPool&, Matrix<double>, Strided<const double>, Strided<const double>, Index, Index,
                            Index, bool);

}  // namespace unfurl::kernels
