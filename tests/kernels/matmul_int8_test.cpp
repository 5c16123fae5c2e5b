// Products with weights of 8 bits against a sum in double over the very codes and scales; how near these are to the
// weights; and that a row's bits do not depend on its company or the number of threads.
#include "kernels/matmul_int8.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/support/backends.h"
#include "tests/support/guarded.h"
#include "tests/support/matrix.h"
#include "tests/support/random.h"

namespace unfurl::tests {
namespace {

using kernels::CpuQueue;
using kernels::int8_blocks;
using kernels::kInt8Block;
using kernels::ThreadPool;

struct Quantized {
  Quantized(const CpuQueue& queue, const StridedMatrix<float>& x, Index rows_, Index cols_)
      : rows(rows_), cols(cols_), codes(rows * cols), scales(rows * int8_blocks(cols)) {
    kernels::quantize_int8(queue, {codes.data(), scales.data()}, x, rows, cols);
    EXPECT_TRUE(codes.intact() && scales.intact());
  }
  double at(Index r, Index c) const {
    return static_cast<double>(scales[r * int8_blocks(cols) + c / kInt8Block]) * codes[r * cols + c];
  }
  Index rows, cols;
  Guarded<std::int8_t> codes;
  Guarded<float> scales;
};

TEST(MatmulInt8, CodesAreWithinHalfAScale) {
  ThreadPool pool(2);
  const CpuQueue queue(pool);
  for (const Index cols : {1, 5, 63, 64, 65, 384, 500}) {
    const Index rows = 7;
    std::vector<float> values = normal<float>(rows * cols, 3);
    for (Index c = 0; c < cols; ++c) values[static_cast<std::size_t>(2 * cols + c)] = 0;  // a row of zeros
    const StridedMatrix<float> x(rows, cols, 3, values);
    const Quantized q(queue, x, rows, cols);
    for (Index r = 0; r < rows; ++r) {
      for (Index c = 0; c < cols; ++c) {
        const double value = values[static_cast<std::size_t>(r * cols + c)];
        const double scale = q.scales[r * int8_blocks(cols) + c / kInt8Block];
        ASSERT_LE(std::abs(q.at(r, c) - value), 0.5001 * scale) << r << ", " << c;
      }
    }
  }
}

TEST(MatmulInt8, WeightsThatAreNotFiniteGiveNaN) {
  ThreadPool pool(1);
  const CpuQueue queue(pool);
  for (const float bad : {std::numeric_limits<float>::infinity(), std::nanf("")}) {
    std::vector<float> values(3 * 70, 1.0f);
    values[70 + 66] = bad;
    const StridedMatrix<float> b(3, 70, 0, values), a(1, 70, 0, std::vector<float>(70, 1.0f));
    const Quantized q(queue, b, 3, 70);
    StridedMatrix<float> c(1, 3, 0);
    kernels::matmul_int8(queue, c.matrix(), a, {q.codes.data(), q.scales.data()}, 1, 3, 70);
    EXPECT_NEAR(c.values()[0], 70, 1e-3);
    EXPECT_TRUE(std::isnan(c.values()[1]));
    EXPECT_NEAR(c.values()[2], 70, 1e-3);
  }
}

TEST(MatmulInt8, IsTheSumOverCodesAndScales) {
  on_targets([] {
    for (const auto& [n, k] : {std::pair<Index, Index>{1, 1}, {5, 63}, {13, 64}, {33, 65}, {30, 200}, {300, 384}}) {
      const StridedMatrix<float> b(n, k, 1, normal<float>(n * k, 2));
      ThreadPool one(1), three(3, false);
      const Quantized q(CpuQueue(one), b, n, k);
      std::vector<float> alone;
      for (Index m = 8; m >= 1; --m) {
        const std::vector<float> values = normal<float>(8 * k, 1);
        const StridedMatrix<float> a(m, k, 2, {values.begin(), values.begin() + m * k});
        for (ThreadPool* pool : {&one, &three}) {
          StridedMatrix<float> c(m, n, 3);
          kernels::matmul_int8(CpuQueue(*pool), c.matrix(), a, {q.codes.data(), q.scales.data()}, m, n, k);
          ASSERT_TRUE(c.intact());
          const std::vector<float> got = c.values();
          if (alone.empty()) alone = got;
          for (Index i = 0; i < m; ++i) {
            for (Index j = 0; j < n; ++j) {
              double sum = 0, size = 0;
              for (Index l = 0; l < k; ++l) {
                const double term = static_cast<double>(values[static_cast<std::size_t>(i * k + l)]) * q.at(j, l);
                sum += term;
                size += std::abs(term);
              }
              const auto at = static_cast<std::size_t>(i * n + j);
              ASSERT_NEAR(got[at], sum, 1e-6 * size) << i << ", " << j << " of " << m << "x" << n << "x" << k;
              ASSERT_EQ(got[at], alone[at]) << "depends on the rows or the threads";
            }
          }
        }
      }
    }
  });
}

template <class T>
T as_element(float value) {
  if constexpr (std::is_same_v<T, bf16>) {
    return to_bf16(value);
  } else {
    return value;
  }
}

/// The codes and scales of a device are the CPU's, and its products the sum over them, alone and in a batch.
template <class Queue, class T, class C>
void check(Index n, Index k, Index gap) {
  SCOPED_TRACE(std::to_string(n) + "x" + std::to_string(k));
  const std::vector<T> weights = normal<T>(n * k, 2), activations = normal<T>(8 * k, 1);
  std::vector<float> wide;
  for (const T weight : weights) wide.push_back(static_cast<float>(doubles(std::vector<T>{weight})[0]));
  ThreadPool pool(1);
  const Quantized expected(CpuQueue(pool), StridedMatrix<float>(n, k, 1, wide), n, k);
  const std::vector<double> left = doubles(activations);
  std::vector<double> alone;
  for (const Index m : {8, 7, 4, 3, 2, 1}) {
    const Results got = on_queues<Queue>([&](const Queue& queue) {
      const StridedMatrix<T, Queue> b(queue, n, k, gap, weights);
      const StridedMatrix<T, Queue> a(queue, m, k, gap, {activations.begin(), activations.begin() + m * k});
      Guarded<std::int8_t, Queue> codes(queue, n * k);
      Guarded<float, Queue> scales(queue, n * int8_blocks(k));
      StridedMatrix<C, Queue> c(queue, m, n, 3);
      kernels::quantize_int8<Queue, T>(queue, {codes.data(), scales.data()}, b, n, k);
      kernels::matmul_int8<Queue, T, C>(queue, c.matrix(), a, {codes.data(), scales.data()}, m, n, k);
      EXPECT_TRUE(codes.intact() && scales.intact() && c.intact());
      std::vector<double> numbers;
      for (const std::int8_t code : codes.values()) numbers.push_back(code);
      return Results{numbers, doubles(scales.values()), doubles(c.values())};
    });
    for (Index i = 0; i < n * k; ++i) ASSERT_EQ(got[0][static_cast<std::size_t>(i)], expected.codes[i]) << i;
    for (Index i = 0; i < n * int8_blocks(k); ++i) {
      ASSERT_EQ(got[1][static_cast<std::size_t>(i)], static_cast<double>(expected.scales[i])) << i;
    }
    if (alone.empty()) alone = got[2];
    for (Index i = 0; i < m; ++i) {
      for (Index j = 0; j < n; ++j) {
        double sum = 0, size = 0;
        for (Index l = 0; l < k; ++l) {
          const double term = left[static_cast<std::size_t>(i * k + l)] * expected.at(j, l);
          sum += term;
          size += std::abs(term);
        }
        const auto at = static_cast<std::size_t>(i * n + j);
        ASSERT_NEAR(got[2][at], sum, 1e-6 * size + (sizeof(C) == 2 ? 0x1p-8 * std::abs(sum) : 0))
            << i << ", " << j << " of " << m << " rows";
        ASSERT_EQ(got[2][at], alone[at]) << "depends on the rows";
      }
    }
  }
}

TEST(MatmulInt8, DevicesRoundAsTheCpuDoesAndSumOverCodesAndScales) {
  on_device_backends([]<class Queue, class T>() {
    for (const Index gap : {0, 3}) {
      for (const Index n : {1, 5, 17}) check<Queue, T, T>(n, 64 * n + 1, gap);
      check<Queue, T, T>(9, 320, gap);
      check<Queue, T, float>(3, 2 * 512 + 192, gap);
      check<Queue, T, float>(2, 4 * 512 + 5, gap);
    }
  });
}

TEST(MatmulInt8, OnDevicesWeightsThatAreNotFiniteGiveNaN) {
  on_device_backends([]<class Queue, class T>() {
    for (const float bad : {std::numeric_limits<float>::infinity(), std::nanf("")}) {
      std::vector<T> values(3 * 70, as_element<T>(1));
      values[70 + 66] = as_element<T>(bad);
      const Queue queue;
      const StridedMatrix<T, Queue> b(queue, 3, 70, 0, values);
      const StridedMatrix<T, Queue> a(queue, 1, 70, 0, std::vector<T>(70, as_element<T>(1)));
      Guarded<std::int8_t, Queue> codes(queue, 3 * 70);
      Guarded<float, Queue> scales(queue, 3 * 2);
      StridedMatrix<float, Queue> c(queue, 1, 3, 0);
      kernels::quantize_int8<Queue, T>(queue, {codes.data(), scales.data()}, b, 3, 70);
      kernels::matmul_int8<Queue, T, float>(queue, c.matrix(), a, {codes.data(), scales.data()}, 1, 3, 70);
      EXPECT_NEAR(c.values()[0], 70, 1e-3);
      EXPECT_TRUE(std::isnan(c.values()[1]));
      EXPECT_NEAR(c.values()[2], 70, 1e-3);
    }
  });
}

}  // namespace
}  // namespace unfurl::tests
