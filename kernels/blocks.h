// How a CPU kernel cuts its work for the threads: by its shape alone, so that neither the sums nor the bits depend on
// the number of threads.
#pragma once
#include <algorithm>

#include "kernels/thread_pool.h"

namespace unfurl::kernels {

/// Elements in a task: some ten microseconds of memory traffic, far above the cost of handing a task out.
inline constexpr Index kTaskElements = 16384;

constexpr Index ceil_div(Index a, Index b) { return (a + b - 1) / b; }

/// The rows of a task over a matrix with `cols` columns.
constexpr Index task_rows(Index cols) { return std::max<Index>(1, kTaskElements / std::max<Index>(1, cols)); }

/// Calls body(first, last) in parallel for every block [first, last) of `block` rows of [0, rows).
template <class Body>
void for_row_blocks(ThreadPool& pool, Index rows, Index block, const Body& body) {
  pool.parallel_for(ceil_div(rows, block), [&](Index i) { body(i * block, std::min(rows, (i + 1) * block)); });
}

/// Calls body(first_row, last_row, first_col, last_col) in parallel for tiles that cover [rows, cols], however long or
/// wide the matrix is. First columns are multiples of kTaskElements.
template <class Body>
void for_tiles(ThreadPool& pool, Index rows, Index cols, const Body& body) {
  const Index block = task_rows(cols), across = ceil_div(cols, kTaskElements);
  pool.parallel_for(ceil_div(rows, block) * across, [&](Index i) {
    const Index row = i / across * block, col = i % across * kTaskElements;
    body(row, std::min(rows, row + block), col, std::min(cols, col + kTaskElements));
  });
}

}  // namespace unfurl::kernels
