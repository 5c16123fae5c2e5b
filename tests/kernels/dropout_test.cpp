#include "kernels/dropout.h"

#include "tests/support/matrix.h"

namespace unfurl::tests {
namespace {

using kernels::CpuQueue;

template <class T>
std::vector<double> reference(const std::vector<T>& x, float rate, const PhiloxKey& key, std::uint64_t first_index) {
  std::vector<double> out;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const std::uint64_t at = first_index + i;
    const bool keep = uniform(philox(key, at / 4)[at % 4]) >= rate;
    out.push_back(keep ? static_cast<double>(x[i]) / (1.0 - static_cast<double>(rate)) : 0);
  }
  return out;
}

template <class T>
void check(MatrixShape shape, Index gap, float rate, const PhiloxKey& key, std::uint64_t first_index) {
  SCOPED_TRACE(text(shape) + " gap " + std::to_string(gap) + " rate " + std::to_string(rate) + " first index " +
               std::to_string(first_index));
  const auto [rows, cols] = shape;
  std::vector<T> x = normal<T>(rows * cols, 1);
  for (T& v : x) v += v < 0 ? T(-0.01) : T(0.01);  // no zeros: a zero in y is a dropped element
  const auto results = on_pools([&](const CpuQueue& queue) {
    const StridedMatrix<T> in(rows, cols, gap, x);
    StridedMatrix<T> y(rows, cols, gap), in_place = in;
    kernels::dropout<CpuQueue, T>(queue, y.matrix(), in, rate, key, first_index, rows, cols);
    kernels::dropout<CpuQueue, T>(queue, in_place.matrix(), in_place, rate, key, first_index, rows, cols);
    EXPECT_TRUE(y.intact() && in_place.intact());
    EXPECT_EQ(y.values(), in_place.values());
    return std::vector<std::vector<T>>{y.values()};
  });
  const std::vector<double> want = reference(x, rate, key, first_index);
  expect_close(results[0], want, tolerance<T>(), "y");
  for (std::size_t i = 0; i < want.size(); ++i) ASSERT_EQ(results[0][i] == 0, want[i] == 0) << i;
}

TEST(DropoutKernel, KeepsExactlyTheElementsOfTheMask) {
  on_targets([] {
    for (const MatrixShape& shape : odd_shapes()) {
      check<float>(shape, 0, 0.1f, {7, 1000, 3}, 0);
      check<double>(shape, 3, 0.5f, {0x123456789abcdefull, 1001, 0xffffffffu}, 4096);
    }
  });
}

TEST(DropoutKernel, CountsThroughThe32BitBoundary) {
  on_targets([] {
    for (const std::uint64_t blocks_before : {0, 1, 3, 15, 16, 37}) {
      const std::uint64_t boundary = std::uint64_t{1} << 34;  // the element whose counter's low word wraps
      check<float>({3, 333}, 1, 0.3f, {5, 1000, 1}, boundary - 4 * blocks_before);
    }
    check<float>({3, 333}, 1, 0.3f, {5, 1000, 1}, std::uint64_t{0xfffffffffffff000});
  });
}

TEST(DropoutKernel, RateZeroKeepsAll) {
  on_targets([] {
    check<float>({5, 33}, 0, 0.0f, {1, 1000, 1}, 8);
    check<double>({5, 33}, 0, 0.0f, {1, 1000, 1}, 8);
  });
}

TEST(DropoutKernel, ThresholdIsExact) {
  on_targets([] {
    // Rates equal to numbers that were drawn: `>=` keeps those.
    const PhiloxKey key{3, 1000, 2};
    for (const std::uint64_t i : {0, 1, 2, 3, 9}) {
      check<float>({1, 64}, 0, uniform(philox(key, i / 4)[i % 4]), key, 0);
    }
  });
}

}  // namespace
}  // namespace unfurl::tests
