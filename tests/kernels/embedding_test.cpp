#include "kernels/embedding.h"

#include <algorithm>
#include <numeric>

#include "tests/support/matrix.h"

namespace unfurl::tests {
namespace {

using kernels::CpuQueue;

template <class T>
void check(Index tokens, std::int32_t vocab, Index cols, Index gap) {
  SCOPED_TRACE(std::to_string(tokens) + " tokens of " + std::to_string(vocab) + ", cols " + std::to_string(cols));
  const std::vector<T> table = normal<T>(vocab * cols, 1), dy = normal<T>(tokens * cols, 2);
  std::vector<std::int32_t> ids = integers(tokens, vocab, 3), order(ids.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](std::int32_t a, std::int32_t b) {
    return ids[static_cast<std::size_t>(a)] < ids[static_cast<std::size_t>(b)];
  });
  const auto results = on_pools([&](const CpuQueue& queue) {
    const Guarded<T> table_in(table);
    const StridedMatrix<T> dy_in(tokens, cols, gap, dy);
    StridedMatrix<T> y(tokens, cols, gap);
    Guarded<T> dtable(std::vector<T>(table.size(), T(0.25)));
    kernels::embedding_forward<CpuQueue, T>(queue, y.matrix(), ids.data(), table_in.data(), tokens, cols);
    kernels::embedding_backward<CpuQueue, T>(queue, dtable.data(), dy_in, ids.data(), order.data(), tokens, cols);
    EXPECT_TRUE(y.intact() && dtable.intact());
    return std::vector<std::vector<T>>{y.values(), dtable.values()};
  });
  std::vector<double> y, dtable(table.size(), 0.25);
  for (std::size_t t = 0; t < ids.size(); ++t) {
    for (Index c = 0; c < cols; ++c) {
      const auto entry = static_cast<std::size_t>(ids[t] * cols + c);
      y.push_back(static_cast<double>(table[entry]));
      dtable[entry] += static_cast<double>(dy[t * static_cast<std::size_t>(cols) + static_cast<std::size_t>(c)]);
    }
  }
  expect_close(results[0], y, 0, "y");
  expect_close(results[1], dtable, tolerance<T>(4 + std::sqrt(static_cast<double>(tokens) / vocab)), "dtable");
}

TEST(EmbeddingKernel, LooksUpAndSumsByToken) {
  on_targets([] {
    for (const Index cols : {1, 31, 33, 129, 300}) {
      check<float>(1, 3, cols, 0);
      check<double>(129, 500, cols, 2);
      check<float>(1000, 7, cols, 1);  // ids that go on through several tasks
      check<double>(700, 1, cols, 0);
    }
    check<float>(0, 3, 8, 0);
  });
}

}  // namespace
}  // namespace unfurl::tests
