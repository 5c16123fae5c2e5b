#include "kernels/elementwise.h"

#include <limits>
#include <type_traits>

#include "tests/support/matrix.h"

namespace unfurl::tests {
namespace {

using kernels::CpuQueue;

template <class T>
void check_arithmetic(MatrixShape shape, Index gap) {
  SCOPED_TRACE(text(shape) + " gap " + std::to_string(gap));
  const auto [rows, cols] = shape;
  const std::vector<T> a = normal<T>(rows * cols, 1), b = normal<T>(rows * cols, 2);
  const auto results = on_pools([&](const CpuQueue& queue) {
    const StridedMatrix<T> a_in(rows, cols, gap, a), b_in(rows, cols, gap, b);
    StridedMatrix<T> sum(rows, cols, gap), scaled = sum, filled = sum, onto_a = a_in, onto_b = b_in, scaled_a = a_in;
    kernels::add<CpuQueue, T>(queue, sum.matrix(), a_in, b_in, rows, cols);
    kernels::add<CpuQueue, T>(queue, onto_a.matrix(), onto_a, b_in, rows, cols);
    kernels::add<CpuQueue, T>(queue, onto_b.matrix(), a_in, onto_b, rows, cols);
    EXPECT_EQ(onto_a.values(), sum.values());
    EXPECT_EQ(onto_b.values(), sum.values());
    kernels::scale<CpuQueue, T>(queue, scaled.matrix(), a_in, T(-1.5), rows, cols);
    kernels::scale<CpuQueue, T>(queue, scaled_a.matrix(), scaled_a, T(-1.5), rows, cols);
    EXPECT_EQ(scaled_a.values(), scaled.values());
    kernels::fill<CpuQueue, T>(queue, filled.matrix(), T(3), rows, cols);
    Guarded<T> flat(b);
    const Guarded<T> flat_a(a);
    kernels::add_scaled<CpuQueue, T>(queue, flat.data(), flat_a.data(), T(0.5), rows * cols);
    EXPECT_TRUE(sum.intact() && scaled.intact() && filled.intact() && onto_a.intact() && onto_b.intact() &&
                scaled_a.intact() && flat.intact());
    return std::vector<std::vector<T>>{sum.values(), scaled.values(), filled.values(), flat.values()};
  });
  std::vector<double> want[4];
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double x = static_cast<double>(a[i]), y = static_cast<double>(b[i]);
    want[0].push_back(x + y);
    want[1].push_back(x * -1.5);
    want[2].push_back(3);
    want[3].push_back(y + x * 0.5);
  }
  for (std::size_t i = 0; i < 4; ++i) expect_close(results[i], want[i], tolerance<T>(), std::to_string(i));
}

TEST(ElementwiseKernels, AddScaleAndFill) {
  on_targets([] {
    for (const MatrixShape& shape : odd_shapes()) {
      check_arithmetic<float>(shape, 0);
      check_arithmetic<double>(shape, 3);
    }
    check_arithmetic<float>({0, 5}, 0);
  });
}

template <class T>
std::vector<T> typed(const std::vector<double>& values) {
  std::vector<T> out;
  for (const double v : values) {
    if constexpr (std::is_same_v<T, bf16>) {
      out.push_back(to_bf16(static_cast<float>(v)));
    } else {
      out.push_back(static_cast<T>(v));
    }
  }
  return out;
}

double untyped(bf16 v) { return static_cast<double>(to_float(v)); }
double untyped(float v) { return static_cast<double>(v); }
double untyped(double v) { return v; }

/// The bf16 nearest to v, ties to even, found among its neighbours.
double nearest_bf16(double v) {
  const bf16 middle = to_bf16(static_cast<float>(v));
  double best = untyped(middle);
  for (const int step : {-1, 1}) {
    const bf16 other{static_cast<std::uint16_t>(middle.bits + step)};
    const double distance = std::abs(untyped(other) - v), so_far = std::abs(best - v);
    if (distance < so_far || (distance == so_far && other.bits % 2 == 0)) best = untyped(other);
  }
  return best;
}

template <class To, class From>
void check_conversion(MatrixShape shape, Index gap) {
  SCOPED_TRACE(text(shape) + " gap " + std::to_string(gap));
  const auto [rows, cols] = shape;
  std::vector<double> values = normal<double>(rows * cols, 3);
  for (std::size_t i = 0; i < values.size(); i += 3) {
    // Next to the middle of two bf16 numbers, closer than float can tell.
    values[i] = untyped(to_bf16(static_cast<float>(values[i]))) * (1 + 0x1p-9) * (1 + (i % 2 ? 1 : -1) * 0x1p-40);
  }
  const std::vector<From> x = typed<From>(values);
  const auto results = on_pools([&](const CpuQueue& queue) {
    const StridedMatrix<From> in(rows, cols, gap, x);
    StridedMatrix<To> y(rows, cols, gap + 1);
    kernels::convert<CpuQueue, To, From>(queue, y.matrix(), in, rows, cols);
    EXPECT_TRUE(y.intact());
    return std::vector<std::vector<To>>{y.values()};
  });
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double v = untyped(x[i]);
    const double want = std::is_same_v<To, bf16> ? nearest_bf16(v) : untyped(typed<To>({v})[0]);
    ASSERT_EQ(untyped(results[0][i]), want) << "element " << i << ", " << v;
  }
}

template <class From>
void check_conversions(MatrixShape shape, Index gap) {
  check_conversion<float, From>(shape, gap);
  check_conversion<double, From>(shape, gap);
  check_conversion<bf16, From>(shape, gap);
}

TEST(ElementwiseKernels, ConvertRoundsToNearest) {
  on_targets([] {
    for (const MatrixShape& shape : odd_shapes()) {
      check_conversions<float>(shape, 0);
      check_conversions<double>(shape, 3);
      check_conversions<bf16>(shape, 2);
    }
  });
}

TEST(ElementwiseKernels, ConvertKeepsWhatIsNotFinite) {
  on_targets([] {
    const double inf = std::numeric_limits<double>::infinity();
    const std::vector<double> x = {inf, -inf, std::nan(""), 1e300, -1e300, 3.4e38, 1e-320, -0.0};
    const auto n = static_cast<Index>(x.size());
    std::vector<bf16> y(x.size());
    kernels::ThreadPool pool(1);
    kernels::convert<CpuQueue, bf16, double>(CpuQueue(pool), {y.data(), n}, {x.data(), n}, 1, n);
    EXPECT_EQ(untyped(y[0]), inf);
    EXPECT_EQ(untyped(y[1]), -inf);
    EXPECT_NE(untyped(y[2]), untyped(y[2]));
    EXPECT_EQ(untyped(y[3]), inf);
    EXPECT_EQ(untyped(y[4]), -inf);
    EXPECT_EQ(untyped(y[5]), inf);  // over the middle of the largest bf16 and the next power of two
    EXPECT_EQ(untyped(y[6]), 0);
    EXPECT_TRUE(std::signbit(untyped(y[7])));
  });
}

TEST(ElementwiseKernels, FillsBf16) {
  on_targets([] {
    StridedMatrix<bf16> y(5, 33, 3);
    kernels::ThreadPool pool(2, false);
    kernels::fill<CpuQueue, bf16>(CpuQueue(pool), y.matrix(), to_bf16(1.5f), 5, 33);
    EXPECT_TRUE(y.intact());
    for (const bf16 v : y.values()) EXPECT_EQ(to_float(v), 1.5f);
  });
}

template <class T>
void check_rows(Index total, Index cols, Index gap, Index every) {
  SCOPED_TRACE(text(MatrixShape{total, cols}) + " every " + std::to_string(every));
  std::vector<std::int32_t> chosen;
  for (Index r = every / 2; r < total; r += every) chosen.push_back(static_cast<std::int32_t>(r));
  const auto count = static_cast<Index>(chosen.size());
  const std::vector<T> x = normal<T>(total * cols, 1);
  const auto results = on_pools([&](const CpuQueue& queue) {
    const StridedMatrix<T> in(total, cols, gap, x);
    StridedMatrix<T> gathered(count, cols, gap), scattered(total, cols, gap);
    kernels::gather_rows<CpuQueue, T>(queue, gathered.matrix(), in, chosen.data(), count, cols);
    kernels::scatter_rows<CpuQueue, T>(queue, scattered.matrix(), gathered, chosen.data(), count, total, cols);
    EXPECT_TRUE(gathered.intact() && scattered.intact());
    return std::vector<std::vector<T>>{gathered.values(), scattered.values()};
  });
  std::vector<double> gathered, scattered(x.size(), 0.0);
  for (const std::int32_t r : chosen) {
    for (Index c = 0; c < cols; ++c) {
      const auto i = static_cast<std::size_t>(r * cols + c);
      gathered.push_back(static_cast<double>(x[i]));
      scattered[i] = gathered.back();
    }
  }
  expect_close(results[0], gathered, 0, "gathered");
  expect_close(results[1], scattered, 0, "scattered");
}

TEST(ElementwiseKernels, GatherAndScatterRows) {
  on_targets([] {
    for (const Index every : {1, 2, 7, 1000}) {
      check_rows<float>(129, 257, 0, every);
      check_rows<double>(1000, 33, 2, every);
      check_rows<float>(1, 1, 0, every);
    }
  });
}

}  // namespace
}  // namespace unfurl::tests
