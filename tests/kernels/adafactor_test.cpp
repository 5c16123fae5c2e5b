#include "kernels/adafactor.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "tests/support/guarded.h"
#include "tests/support/random.h"

namespace unfurl::tests {
namespace {

using kernels::CpuQueue;
using kernels::ThreadPool;

struct Case {
  Index rows, cols;
};
const Case kCases[] = {{1, 1},   {1, 31},   {1, 4099}, {2, 1},     {5, 123},   {33, 64},
                       {64, 65}, {129, 33}, {7, 2049}, {40, 2100}, {4097, 17}, {70001, 1}};

/// The formulas of kernels/adafactor.h, plainly, in double.
struct Reference {
  std::vector<double> weight, row, column;

  void step(const std::vector<double>& gradient, const kernels::Adafactor& k, Index rows, Index cols) {
    const auto n = static_cast<std::size_t>(rows), width = static_cast<std::size_t>(cols);
    const double beta2 = 1 - std::pow(static_cast<double>(k.step), -k.decay);
    std::vector<double> g(gradient), row_mean(n), column_mean(width), u(g.size());
    for (std::size_t i = 0; i < g.size(); ++i) {
      g[i] *= k.gradient_scale;
      row_mean[i / width] += (g[i] * g[i] + k.eps1) / static_cast<double>(cols);
      column_mean[i % width] += (g[i] * g[i] + k.eps1) / static_cast<double>(rows);
    }
    for (std::size_t c = 0; c < width; ++c) column[c] = beta2 * column[c] + (1 - beta2) * column_mean[c];
    if (rows > 1) {
      for (std::size_t r = 0; r < n; ++r) row[r] = beta2 * row[r] + (1 - beta2) * row_mean[r];
    }
    const double mean = std::accumulate(row.begin(), row.end(), 0.0) / static_cast<double>(rows);
    double u2 = 0, w2 = 0;
    for (std::size_t i = 0; i < g.size(); ++i) {
      const double v = rows > 1 ? row[i / width] * column[i % width] / mean : column[i % width];
      u[i] = g[i] / std::sqrt(v);
      u2 += u[i] * u[i];
      w2 += weight[i] * weight[i];
    }
    const double elements = static_cast<double>(g.size());
    const double clip = std::max(1.0, std::sqrt(u2 / elements) / k.clip_threshold);
    const double scale = k.parameter_scale ? std::max(k.eps2, std::sqrt(w2 / elements)) : 1;
    for (std::size_t i = 0; i < g.size(); ++i) {
      weight[i] -= k.learning_rate * scale * u[i] / clip + k.learning_rate * k.weight_decay * weight[i];
    }
  }
};

template <class T>
class AdafactorKernel : public testing::Test {};
using Types = testing::Types<float, double>;
TYPED_TEST_SUITE(AdafactorKernel, Types);

TYPED_TEST(AdafactorKernel, EqualsTheFormulaOverThreeSteps) {
  using T = TypeParam;
  const double tolerance = std::is_same_v<T, float> ? 1e-5 : 1e-12;
  ThreadPool pool(2, false);
  const CpuQueue queue(pool);
  for (const auto& [rows, cols] : kCases) {
    for (const int variant : {0, 1, 2}) {
      SCOPED_TRACE(testing::Message() << "[" << rows << ", " << cols << "], variant " << variant);
      const Index count = rows * cols;
      Guarded<T> weight(normal<T>(count, 1, 0.5)), gradient(count);
      Guarded<T> row(std::vector<T>(static_cast<std::size_t>(rows), T(0)));
      Guarded<T> column(std::vector<T>(static_cast<std::size_t>(cols), T(0)));
      Reference reference;
      const auto start = weight.values();
      reference.weight.assign(start.begin(), start.end());
      reference.row.resize(static_cast<std::size_t>(rows));
      reference.column.resize(static_cast<std::size_t>(cols));
      kernels::Adafactor config{.learning_rate = 0.01, .gradient_scale = 0.25};
      if (variant > 0) config.parameter_scale = true, config.weight_decay = 0.3, config.eps1 = 1e-2;
      if (variant == 2) config.clip_threshold = 0.2;
      for (Index step = 1; step <= 3; ++step) {
        config.step = step;
        const auto values = normal<T>(count, static_cast<std::uint64_t>(10 + step), static_cast<double>(step));
        std::copy(values.begin(), values.end(), gradient.data());
        reference.step({values.begin(), values.end()}, config, rows, cols);
        const bool clear = step == 2;
        kernels::adafactor(queue, weight.data(), row.data(), column.data(), gradient.data(), config, clear, rows, cols);
        for (Index i = 0; i < count; ++i) {
          ASSERT_EQ(gradient[i], clear ? T(0) : values[static_cast<std::size_t>(i)]);
        }
      }
      EXPECT_TRUE(weight.intact() && gradient.intact() && row.intact() && column.intact());
      for (Index i = 0; i < count; ++i) {
        ASSERT_NEAR(weight[i], reference.weight[static_cast<std::size_t>(i)], tolerance) << "at " << i;
      }
      for (Index c = 0; c < cols; ++c) {
        const double expected = reference.column[static_cast<std::size_t>(c)];
        ASSERT_NEAR(column[c], expected, tolerance * expected) << "column " << c;
      }
      for (Index r = 0; rows > 1 && r < rows; ++r) {
        const double expected = reference.row[static_cast<std::size_t>(r)];
        ASSERT_NEAR(row[r], expected, tolerance * expected) << "row " << r;
      }
    }
  }
}

TYPED_TEST(AdafactorKernel, SameBitsOnAnyNumberOfThreads) {
  using T = TypeParam;
  for (const auto& [rows, cols] : {Case{150, 2500}, Case{1, 9001}, Case{9001, 3}}) {
    std::vector<T> weight, column;
    for (const int threads : {1, 2, 3, 5}) {
      ThreadPool pool(threads, false);
      const CpuQueue queue(pool);
      auto w = normal<T>(rows * cols, 1), g = normal<T>(rows * cols, 2);
      std::vector<T> r(static_cast<std::size_t>(rows), T(1)), c(static_cast<std::size_t>(cols), T(1));
      const kernels::Adafactor config{.learning_rate = 0.1, .parameter_scale = true, .step = 5};
      kernels::adafactor(queue, w.data(), r.data(), c.data(), g.data(), config, true, rows, cols);
      if (threads == 1) weight = w, column = c;
      EXPECT_EQ(w, weight) << threads << " threads";
      EXPECT_EQ(c, column) << threads << " threads";
    }
  }
}

TYPED_TEST(AdafactorKernel, VanishingGradientsGiveFiniteUpdates) {
  using T = TypeParam;
  ThreadPool pool(1);
  const CpuQueue queue(pool);
  for (const double eps1 : {0.0, 1e-30}) {
    for (const double scale : {0.0, 1e-25}) {
      auto w = normal<T>(21, 1), g = normal<T>(21, 2, scale);
      for (std::size_t i = 0; i < 7; ++i) g[i] = 0;  // a whole row
      std::vector<T> r(3), c(7);
      kernels::adafactor(queue, w.data(), r.data(), c.data(), g.data(), {.learning_rate = 0.1, .eps1 = eps1}, false,
                         Index{3}, Index{7});
      for (const T value : w) EXPECT_TRUE(std::isfinite(value)) << "eps1 " << eps1 << ", gradients of " << scale;
    }
  }
}

TYPED_TEST(AdafactorKernel, AnEmptyMatrixIsLeftAlone) {
  ThreadPool pool(1);
  const CpuQueue queue(pool);
  std::vector<TypeParam> row(3, 2);
  kernels::adafactor<CpuQueue, TypeParam>(queue, nullptr, row.data(), nullptr, nullptr, {}, true, 3, 0);
  EXPECT_EQ(row, std::vector<TypeParam>(3, 2));
}

}  // namespace
}  // namespace unfurl::tests
