#include "kernels/dropout.h"

#include "tests/support/backends.h"

namespace unfurl::tests {
namespace {

/// In S, rounded to T.
template <class S, class T>
std::vector<double> reference(const std::vector<double>& x, float rate, const PhiloxKey& key,
                              std::uint64_t first_index) {
  std::vector<double> out;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const std::uint64_t at = first_index + i;
    const bool keep = uniform(philox(key, at / 4)[at % 4]) >= rate;
    out.push_back(keep ? rounded<T>(static_cast<double>(static_cast<S>(x[i]) / (1 - static_cast<S>(rate)))) : 0);
  }
  return out;
}

template <class Queue, class T>
void check(MatrixShape shape, Index gap, float rate, const PhiloxKey& key, std::uint64_t first_index) {
  SCOPED_TRACE(text(shape) + " gap " + std::to_string(gap) + " rate " + std::to_string(rate) + " first index " +
               std::to_string(first_index));
  const Index rows = shape.rows, cols = shape.cols;
  const std::vector<T> x = normal<T>(rows * cols, 1);
  for (const double v : doubles(x)) ASSERT_NE(v, 0);  // a zero in y is a dropped element
  const Results results = on_queues<Queue>([&](const Queue& queue) {
    const StridedMatrix<T, Queue> in(queue, rows, cols, gap, x);
    StridedMatrix<T, Queue> y(queue, rows, cols, gap), in_place = in;
    kernels::dropout<Queue, T>(queue, y.matrix(), in, rate, key, first_index, rows, cols);
    kernels::dropout<Queue, T>(queue, in_place.matrix(), in_place, rate, key, first_index, rows, cols);
    EXPECT_TRUE(y.intact() && in_place.intact());
    EXPECT_EQ(doubles(y.values()), doubles(in_place.values()));
    return Results{doubles(y.values())};
  });
  const std::vector<double> want = reference<double, double>(doubles(x), rate, key, first_index);
  expect_matches<T>(results[0], want, reference<float, T>(doubles(x), rate, key, first_index), tolerance<double>(),
                    "y");
  for (std::size_t i = 0; i < want.size(); ++i) ASSERT_EQ(results[0][i] == 0, want[i] == 0) << i;
}

TEST(DropoutKernel, KeepsExactlyTheElementsOfTheMask) {
  on_backends([]<class Queue, class T>() {
    for (const MatrixShape& shape : odd_shapes()) {
      check<Queue, T>(shape, 0, 0.1f, {7, 1000, 3}, 0);
      check<Queue, T>(shape, 3, 0.5f, {0x123456789abcdefull, 1001, 0xffffffffu}, 4096);
    }
    check<Queue, T>({13, 136}, 8, 0.25f, {7, 1000, 3}, 12);
  });
}

TEST(DropoutKernel, CountsThroughThe32BitBoundary) {
  on_backends([]<class Queue, class T>() {
    for (const std::uint64_t blocks_before : {0, 1, 3, 15, 16, 37}) {
      const std::uint64_t boundary = std::uint64_t{1} << 34;  // the element whose counter's low word wraps
      check<Queue, T>({3, 333}, 1, 0.3f, {5, 1000, 1}, boundary - 4 * blocks_before);
    }
    check<Queue, T>({3, 333}, 1, 0.3f, {5, 1000, 1}, std::uint64_t{0xfffffffffffff000});
    check<Queue, T>({3, 336}, 0, 0.3f, {5, 1000, 1}, std::uint64_t{0xfffffffffffff000});
  });
}

template <class Queue, class T>
void check_position(MatrixShape shape, std::uint64_t first_row, std::uint32_t step) {
  SCOPED_TRACE(text(shape) + " first row " + std::to_string(first_row));
  const Index rows = shape.rows, cols = shape.cols;
  const std::vector<T> x = normal<T>(rows * cols, 1);
  const std::vector<kernels::DropoutPosition> at = {{first_row, step, 0}};
  const Results results = on_queues<Queue>([&](const Queue& queue) {
    const StridedMatrix<T, Queue> in(queue, rows, cols, 0, x);
    const Guarded<kernels::DropoutPosition, Queue> position(queue, at);
    StridedMatrix<T, Queue> y(queue, rows, cols, 0), same(queue, rows, cols, 0);
    kernels::dropout_at<Queue, T>(queue, y.matrix(), in, 0.4f, {9, 1000, 77}, position.data(), rows, cols);
    kernels::dropout<Queue, T>(queue, same.matrix(), in, 0.4f, {9, 1000, step},
                               first_row * static_cast<std::uint64_t>(cols), rows, cols);
    EXPECT_TRUE(y.intact() && same.intact());
    return Results{doubles(y.values()), doubles(same.values())};
  });
  EXPECT_EQ(results[0], results[1]);
}

TEST(DropoutKernel, ReadsItsPositionFromMemory) {
  on_backends([]<class Queue, class T>() {
    check_position<Queue, T>({13, 136}, 8, 5);
    check_position<Queue, T>({5, 33}, 4, 6);
    check_position<Queue, T>({3, 64}, std::uint64_t{1} << 40, 0xffffffffu);
  });
}

TEST(DropoutKernel, RateZeroKeepsAll) {
  on_backends([]<class Queue, class T>() { check<Queue, T>({5, 33}, 0, 0.0f, {1, 1000, 1}, 8); });
}

TEST(DropoutKernel, ThresholdIsExact) {
  on_backends([]<class Queue, class T>() {
    // Rates equal to numbers that were drawn: `>=` keeps those.
    const PhiloxKey key{3, 1000, 2};
    for (const std::uint64_t i : {0, 1, 2, 3, 9}) {
      check<Queue, T>({1, 64}, 0, uniform(philox(key, i / 4)[i % 4]), key, 0);
    }
  });
}

}  // namespace
}  // namespace unfurl::tests
