#include "kernels/soft_prompt.h"

#include "tests/support/backends.h"

namespace unfurl::tests {
namespace {

/// Documents of these lengths, one after the other.
template <class Queue, class T>
void check(const std::vector<Index>& lengths, Index rows, Index cols, Index gap) {
  using Sum = kernels::Accumulator<T>;
  SCOPED_TRACE(std::to_string(lengths.size()) + " documents, rows " + std::to_string(rows) + ", cols " +
               std::to_string(cols));
  std::vector<std::int32_t> bounds = {0};
  for (const Index length : lengths) bounds.push_back(bounds.back() + static_cast<std::int32_t>(length));
  const Index tokens = bounds.back() + 3, documents = static_cast<Index>(lengths.size());
  const std::vector<T> prompt = normal<T>(rows * cols, 1), before = normal<T>(tokens * cols, 2),
                       dy = normal<T>(tokens * cols, 3);
  const Results results = on_queues<Queue>([&](const Queue& queue) {
    const Guarded<std::int32_t, Queue> bounds_in(queue, bounds);
    const Guarded<T, Queue> prompt_in(queue, prompt);
    const StridedMatrix<T, Queue> dy_in(queue, tokens, cols, gap, dy);
    StridedMatrix<T, Queue> y(queue, tokens, cols, gap, before);
    Guarded<Sum, Queue> dprompt(queue, std::vector<Sum>(prompt.size(), Sum(0.25)));
    kernels::soft_prompt_forward<Queue, T>(queue, y.matrix(), prompt_in.data(), bounds_in.data(), documents, rows,
                                           cols);
    kernels::soft_prompt_backward<Queue, T>(queue, dprompt.data(), dy_in, bounds_in.data(), documents, rows, cols);
    EXPECT_TRUE(y.intact() && dprompt.intact());
    return Results{doubles(y.values()), doubles(dprompt.values())};
  });
  const std::vector<double> entries = doubles(prompt), incoming = doubles(dy);
  std::vector<double> y = doubles(before), dprompt(prompt.size(), 0.25);
  std::vector<float> plain(prompt.size(), 0.25f);
  for (std::size_t d = 0; d < lengths.size(); ++d) {
    if (lengths[d] < rows) continue;
    for (Index i = 0; i < rows * cols; ++i) {
      const auto at = static_cast<std::size_t>(bounds[d] * cols + i);
      y[at] = entries[static_cast<std::size_t>(i)];
      dprompt[static_cast<std::size_t>(i)] += incoming[at];
      plain[static_cast<std::size_t>(i)] += static_cast<float>(incoming[at]);
    }
  }
  expect_close(results[0], y, 0, "y");
  expect_matches<T>(results[1], dprompt, doubles(plain),
                    tolerance<double>(4 + std::sqrt(static_cast<double>(documents))), "dprompt");
}

TEST(SoftPromptKernel, FillsTheFirstRowsOfDocumentsAndSumsTheirGradients) {
  on_backends([]<class Queue, class T>() {
    for (const Index cols : {1, 31, 129, 300}) {
      check<Queue, T>({5}, 5, cols, 0);
      check<Queue, T>({9, 4, 0, 3, 7, 0, 0}, 4, cols, 3);  // one is too short, some are empty
      check<Queue, T>(std::vector<Index>(37, 6), 3, cols, 1);
    }
    check<Queue, T>({}, 3, 8, 0);
    check<Queue, T>({0, 0}, 3, 8, 0);
  });
}

}  // namespace
}  // namespace unfurl::tests
