#include "kernels/elementwise.h"

#include <limits>
#include <type_traits>

#include "tests/support/backends.h"

namespace unfurl::tests {
namespace {

using kernels::CpuQueue;

template <class T>
T element(double value) {
  if constexpr (std::is_same_v<T, bf16>) {
    return to_bf16(static_cast<float>(value));
  } else {
    return static_cast<T>(value);
  }
}

template <class Queue, class T>
void check_arithmetic(MatrixShape shape, Index gap) {
  SCOPED_TRACE(text(shape) + " gap " + std::to_string(gap));
  const Index rows = shape.rows, cols = shape.cols;
  const std::vector<T> a = normal<T>(rows * cols, 1), b = normal<T>(rows * cols, 2);
  const Results results = on_queues<Queue>([&](const Queue& queue) {
    const StridedMatrix<T, Queue> a_in(queue, rows, cols, gap, a), b_in(queue, rows, cols, gap, b);
    StridedMatrix<T, Queue> sum(queue, rows, cols, gap), scaled = sum, filled = sum;
    StridedMatrix<T, Queue> onto_a = a_in, onto_b = b_in, scaled_a = a_in;
    kernels::add<Queue, T>(queue, sum.matrix(), a_in, b_in, rows, cols);
    kernels::add<Queue, T>(queue, onto_a.matrix(), onto_a, b_in, rows, cols);
    kernels::add<Queue, T>(queue, onto_b.matrix(), a_in, onto_b, rows, cols);
    EXPECT_EQ(doubles(onto_a.values()), doubles(sum.values()));
    EXPECT_EQ(doubles(onto_b.values()), doubles(sum.values()));
    kernels::scale<Queue, T>(queue, scaled.matrix(), a_in, kernels::Accumulator<T>(-1.5), rows, cols);
    kernels::scale<Queue, T>(queue, scaled_a.matrix(), scaled_a, kernels::Accumulator<T>(-1.5), rows, cols);
    EXPECT_EQ(doubles(scaled_a.values()), doubles(scaled.values()));
    kernels::fill<Queue, T>(queue, filled.matrix(), element<T>(3), rows, cols);
    Guarded<T, Queue> flat(queue, b);
    const Guarded<T, Queue> flat_a(queue, a);
    kernels::add_scaled<Queue, T>(queue, flat.data(), flat_a.data(), element<T>(0.5), rows * cols);
    EXPECT_TRUE(sum.intact() && scaled.intact() && filled.intact() && onto_a.intact() && onto_b.intact() &&
                scaled_a.intact() && flat.intact());
    return Results{doubles(sum.values()), doubles(scaled.values()), doubles(filled.values()), doubles(flat.values())};
  });
  std::vector<double> want[4];
  const std::vector<double> xs = doubles(a), ys = doubles(b);
  for (std::size_t i = 0; i < a.size(); ++i) {
    want[0].push_back(rounded<T>(xs[i] + ys[i]));
    want[1].push_back(rounded<T>(xs[i] * -1.5));
    want[2].push_back(3);
    want[3].push_back(rounded<T>(ys[i] + xs[i] * 0.5));
  }
  // One operation and one rounding: the very numbers.
  for (std::size_t i = 0; i < 4; ++i) expect_close(results[i], want[i], 0, std::to_string(i));
}

TEST(ElementwiseKernels, AddScaleAndFill) {
  on_backends([]<class Queue, class T>() {
    for (const MatrixShape& shape : odd_shapes()) {
      check_arithmetic<Queue, T>(shape, 0);
      check_arithmetic<Queue, T>(shape, 3);
    }
    check_arithmetic<Queue, T>({13, 264}, 8);
    check_arithmetic<Queue, T>({0, 5}, 0);
  });
}

template <class T>
std::vector<T> typed(const std::vector<double>& values) {
  std::vector<T> out;
  for (const double v : values) out.push_back(element<T>(v));
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

template <class Queue, class To, class From>
void check_conversion(MatrixShape shape, Index gap) {
  SCOPED_TRACE(text(shape) + " gap " + std::to_string(gap));
  const Index rows = shape.rows, cols = shape.cols;
  std::vector<double> values = normal<double>(rows * cols, 3);
  for (std::size_t i = 0; i < values.size(); i += 3) {
    // Next to the middle of two bf16 numbers, closer than float can tell.
    values[i] = untyped(to_bf16(static_cast<float>(values[i]))) * (1 + 0x1p-9) * (1 + (i % 2 ? 1 : -1) * 0x1p-40);
  }
  const std::vector<From> x = typed<From>(values);
  const Results results = on_queues<Queue>([&](const Queue& queue) {
    const StridedMatrix<From, Queue> in(queue, rows, cols, gap, x);
    StridedMatrix<To, Queue> y(queue, rows, cols, gap + (gap % 8 == 0 ? 0 : 1));
    kernels::convert<Queue, To, From>(queue, y.matrix(), in, rows, cols);
    EXPECT_TRUE(y.intact());
    return Results{doubles(y.values())};
  });
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double v = untyped(x[i]);
    const double want = std::is_same_v<To, bf16> ? nearest_bf16(v) : untyped(typed<To>({v})[0]);
    ASSERT_EQ(results[0][i], want) << "element " << i << ", " << v;
  }
}

template <class Queue, class From>
void check_conversions(MatrixShape shape, Index gap) {
  check_conversion<Queue, float, From>(shape, gap);
  check_conversion<Queue, bf16, From>(shape, gap);
  if constexpr (std::is_same_v<Queue, CpuQueue>) check_conversion<Queue, double, From>(shape, gap);
}

TEST(ElementwiseKernels, ConvertRoundsToNearest) {
  on_backends([]<class Queue, class T>() {
    for (const MatrixShape& shape : odd_shapes()) check_conversions<Queue, T>(shape, sizeof(T) == 8 ? 3 : 0);
    check_conversions<Queue, T>({13, 264}, 8);
    if constexpr (std::is_same_v<T, float>) check_conversions<Queue, bf16>({33, 65}, 2);
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

template <class Queue, class T>
void check_rows(Index total, Index cols, Index gap, Index every) {
  SCOPED_TRACE(text(MatrixShape{total, cols}) + " every " + std::to_string(every));
  std::vector<std::int32_t> chosen;
  for (Index r = every / 2; r < total; r += every) chosen.push_back(static_cast<std::int32_t>(r));
  const auto count = static_cast<Index>(chosen.size());
  const std::vector<T> x = normal<T>(total * cols, 1);
  const Results results = on_queues<Queue>([&](const Queue& queue) {
    const Guarded<std::int32_t, Queue> rows(queue, chosen);
    const StridedMatrix<T, Queue> in(queue, total, cols, gap, x);
    StridedMatrix<T, Queue> gathered(queue, count, cols, gap), scattered(queue, total, cols, gap);
    kernels::gather_rows<Queue, T>(queue, gathered.matrix(), in, rows.data(), count, cols);
    kernels::scatter_rows<Queue, T>(queue, scattered.matrix(), gathered, rows.data(), count, total, cols);
    EXPECT_TRUE(gathered.intact() && scattered.intact());
    return Results{doubles(gathered.values()), doubles(scattered.values())};
  });
  const std::vector<double> values = doubles(x);
  std::vector<double> gathered, scattered(x.size(), 0.0);
  for (const std::int32_t r : chosen) {
    for (Index c = 0; c < cols; ++c) {
      const auto i = static_cast<std::size_t>(r * cols + c);
      gathered.push_back(values[i]);
      scattered[i] = gathered.back();
    }
  }
  expect_close(results[0], gathered, 0, "gathered");
  expect_close(results[1], scattered, 0, "scattered");
}

TEST(ElementwiseKernels, GatherAndScatterRows) {
  on_backends([]<class Queue, class T>() {
    for (const Index every : {1, 2, 7, 1000}) {
      check_rows<Queue, T>(129, 257, 0, every);
      check_rows<Queue, T>(1000, 33, 2, every);
      check_rows<Queue, T>(21, 1200, 8, every);
      check_rows<Queue, T>(1, 1, 0, every);
    }
  });
}

}  // namespace
}  // namespace unfurl::tests
