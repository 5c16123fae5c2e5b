#include "kernels/embedding.h"

#include <algorithm>
#include <numeric>

#include "tests/support/backends.h"

namespace unfurl::tests {
namespace {

template <class Queue, class T>
void check(Index tokens, std::int32_t vocab, Index cols, Index gap) {
  using Sum = kernels::Accumulator<T>;
  SCOPED_TRACE(std::to_string(tokens) + " tokens of " + std::to_string(vocab) + ", cols " + std::to_string(cols));
  const std::vector<T> table = normal<T>(vocab * cols, 1), dy = normal<T>(tokens * cols, 2);
  std::vector<std::int32_t> ids = integers(tokens, vocab, 3), order(ids.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](std::int32_t a, std::int32_t b) {
    return ids[static_cast<std::size_t>(a)] < ids[static_cast<std::size_t>(b)];
  });
  const Results results = on_queues<Queue>([&](const Queue& queue) {
    const Guarded<std::int32_t, Queue> ids_in(queue, ids), order_in(queue, order);
    const Guarded<T, Queue> table_in(queue, table);
    const StridedMatrix<T, Queue> dy_in(queue, tokens, cols, gap, dy);
    StridedMatrix<T, Queue> y(queue, tokens, cols, gap);
    Guarded<Sum, Queue> dtable(queue, std::vector<Sum>(table.size(), Sum(0.25)));
    kernels::embedding_forward<Queue, T>(queue, y.matrix(), ids_in.data(), table_in.data(), tokens, cols);
    kernels::embedding_backward<Queue, T>(queue, dtable.data(), dy_in, ids_in.data(), order_in.data(), tokens, cols);
    EXPECT_TRUE(y.intact() && dtable.intact());
    return Results{doubles(y.values()), doubles(dtable.values())};
  });
  const std::vector<double> entries = doubles(table), rows = doubles(dy);
  std::vector<double> y, dtable(table.size(), 0.25);
  std::vector<float> plain(table.size(), 0.25f);
  for (std::size_t t = 0; t < ids.size(); ++t) {
    for (Index c = 0; c < cols; ++c) {
      const auto entry = static_cast<std::size_t>(ids[t] * cols + c);
      y.push_back(entries[entry]);
      const double row = rows[t * static_cast<std::size_t>(cols) + static_cast<std::size_t>(c)];
      dtable[entry] += row;
      plain[entry] += static_cast<float>(row);
    }
  }
  expect_close(results[0], y, 0, "y");
  expect_matches<T>(results[1], dtable, doubles(plain),
                    tolerance<double>(4 + std::sqrt(static_cast<double>(tokens) / vocab)), "dtable");
}

TEST(EmbeddingKernel, LooksUpAndSumsByToken) {
  on_backends([]<class Queue, class T>() {
    for (const Index cols : {1, 31, 33, 129, 300}) {
      check<Queue, T>(1, 3, cols, 0);
      check<Queue, T>(129, 500, cols, 2);
      check<Queue, T>(1000, 7, cols, 1);  // ids that go on through several tasks
      check<Queue, T>(700, 1, cols, 0);
    }
    check<Queue, T>(0, 3, 8, 0);
  });
}

// Vectors fit; the runs of an id begin, end and go on at every place of a part.
TEST(EmbeddingKernel, SumsRunsOfEveryLength) {
  on_backends([]<class Queue, class T>() {
    for (const std::int32_t vocab : {1, 2, 5, 12, 40, 300}) check<Queue, T>(333, vocab, 40, 8);
    for (const Index tokens : {31, 32, 33, 64, 65}) check<Queue, T>(tokens, 1, 8, 0);
    for (const Index tokens : {64, 96, 97}) check<Queue, T>(tokens, 3, 1032, 0);
  });
}

}  // namespace
}  // namespace unfurl::tests
