// Starts and lengths of documents in matrices of several strides, and padding behind the last document.
#include "kernels/ragged.h"

#include "tests/support/backends.h"

namespace unfurl::tests {
namespace {

template <class Queue, class T>
void check(const std::vector<Index>& lengths, Index padding, Index cols) {
  SCOPED_TRACE(std::to_string(lengths.size()) + " documents, " + std::to_string(cols) + " columns");
  std::vector<std::int32_t> bounds = {0};
  for (const Index length : lengths) bounds.push_back(bounds.back() + static_cast<std::int32_t>(length));
  const Index documents = static_cast<Index>(lengths.size()), tokens = bounds.back() + padding, pitch = documents + 3;
  const kernels::RaggedStrides strides{{cols, 3000000007, 8}, 3};
  const std::vector<T> before = normal<T>(tokens * cols, 1);
  std::vector<std::int64_t> offsets(static_cast<std::size_t>(3 * pitch), -1);
  const std::vector<std::int64_t> untouched = offsets;
  for (Index i = 0; i < 3; ++i) {
    for (Index d = 0; d <= documents; ++d) {
      offsets[static_cast<std::size_t>(i * pitch + d)] = bounds[static_cast<std::size_t>(d)] * strides.values[i];
    }
  }
  const Results got = on_queues<Queue>([&](const Queue& queue) {
    const Guarded<std::int32_t, Queue> bounds_in(queue, bounds);
    Guarded<std::int32_t, Queue> sizes(queue, documents);
    Guarded<std::int64_t, Queue> starts(queue, untouched);
    StridedMatrix<T, Queue> x(queue, tokens, cols, 3, before);
    kernels::ragged_offsets<Queue>(queue, starts.data(), pitch, sizes.data(), bounds_in.data(), documents, strides);
    kernels::clear_padding<Queue, T>(queue, x.matrix(), bounds_in.data(), documents, tokens, cols);
    EXPECT_TRUE(starts.intact() && sizes.intact() && x.intact());
    EXPECT_EQ(starts.values(), offsets);
    const std::vector<std::int32_t> found = sizes.values();
    EXPECT_EQ(std::vector<Index>(found.begin(), found.end()), lengths);
    return Results{doubles(x.values())};
  });
  std::vector<double> cleared = doubles(before);
  std::fill(cleared.begin() + bounds.back() * cols, cleared.end(), 0.0);
  expect_close(got[0], cleared, 0, "x");
}

TEST(Ragged, SaysWhereDocumentsLieAndClearsWhatIsBehindThem) {
  on_device_backends([]<class Queue, class T>() {
    check<Queue, T>({5}, 3, 1);
    check<Queue, T>({9, 4, 0, 3, 7, 0, 0}, 5, 129);
    check<Queue, T>(std::vector<Index>(300, 2), 0, 8);
    check<Queue, T>({0, 0}, 4, 300);
  });
}

}  // namespace
}  // namespace unfurl::tests
