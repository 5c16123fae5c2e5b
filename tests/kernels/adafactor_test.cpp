#include "kernels/adafactor.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "tests/support/backends.h"

namespace unfurl::tests {
namespace {

using kernels::CpuQueue;
using kernels::ThreadPool;

struct Case {
  Index rows, cols;
};
const Case kCases[] = {{1, 1},   {1, 31},   {1, 4099}, {2, 1},     {5, 123},   {33, 64},
                       {64, 65}, {129, 33}, {7, 2049}, {40, 2100}, {4097, 17}, {70001, 1}};

/// The formulas of kernels/adafactor.h, plainly, in S.
template <class S>
struct Reference {
  std::vector<S> weight, row, column;

  void step(const std::vector<double>& gradient, const kernels::Adafactor& k, Index rows, Index cols) {
    const auto n = static_cast<std::size_t>(rows), width = static_cast<std::size_t>(cols);
    const auto in_s = [](auto value) { return static_cast<S>(value); };
    const S beta2 = in_s(1 - std::pow(static_cast<double>(k.step), -k.decay));
    std::vector<S> g(gradient.begin(), gradient.end()), row_mean(n), column_mean(width), u(g.size());
    for (std::size_t i = 0; i < g.size(); ++i) {
      g[i] *= in_s(k.gradient_scale);
      row_mean[i / width] += (g[i] * g[i] + in_s(k.eps1)) / in_s(cols);
      column_mean[i % width] += (g[i] * g[i] + in_s(k.eps1)) / in_s(rows);
    }
    for (std::size_t c = 0; c < width; ++c) column[c] = beta2 * column[c] + (1 - beta2) * column_mean[c];
    if (rows > 1) {
      for (std::size_t r = 0; r < n; ++r) row[r] = beta2 * row[r] + (1 - beta2) * row_mean[r];
    }
    const S mean = std::accumulate(row.begin(), row.end(), S(0)) / in_s(rows);
    S u2 = 0, w2 = 0;
    for (std::size_t i = 0; i < g.size(); ++i) {
      const S v = rows > 1 ? row[i / width] * column[i % width] / mean : column[i % width];
      u[i] = g[i] / std::sqrt(v);
      u2 += u[i] * u[i];
      w2 += weight[i] * weight[i];
    }
    const S elements = in_s(g.size()), rate = in_s(k.learning_rate);
    const S clip = std::max(S(1), std::sqrt(u2 / elements) / in_s(k.clip_threshold));
    const S scale = k.parameter_scale ? std::max(in_s(k.eps2), std::sqrt(w2 / elements)) : S(1);
    for (std::size_t i = 0; i < g.size(); ++i) {
      weight[i] -= rate * scale * u[i] / clip + rate * in_s(k.weight_decay) * weight[i];
    }
  }
};

kernels::Adafactor config_of(int variant) {
  kernels::Adafactor config{.learning_rate = 0.01, .gradient_scale = 0.25};
  if (variant > 0) config.parameter_scale = true, config.weight_decay = 0.3, config.eps1 = 1e-2;
  if (variant == 2) config.clip_threshold = 0.2;
  return config;
}

/// Weights, rows and columns after three steps, of which the second clears the gradient.
template <class S, class T>
Results expected(Index rows, Index cols, kernels::Adafactor config) {
  Reference<S> reference;
  const std::vector<T> weight = normal<T>(rows * cols, 1, 0.5);
  reference.weight.assign(weight.begin(), weight.end());
  reference.row.resize(static_cast<std::size_t>(rows));
  reference.column.resize(static_cast<std::size_t>(cols));
  for (config.step = 1; config.step <= 3; ++config.step) {
    const auto seed = static_cast<std::uint64_t>(10 + config.step);
    reference.step(doubles(normal<T>(rows * cols, seed, static_cast<double>(config.step))), config, rows, cols);
  }
  return {doubles(reference.weight), doubles(reference.row), doubles(reference.column)};
}

template <class T>
void expect_equal(const Results& results, Index rows, Index cols, int variant) {
  const Results want = expected<double, T>(rows, cols, config_of(variant));
  const Results plain = expected<float, T>(rows, cols, config_of(variant));
  expect_matches<T>(results[0], want[0], plain[0], 1e-12, "weight");
  if (rows > 1) {
    expect_matches<T>(results[1], want[1], plain[1], 1e-12, "row");
  } else {
    EXPECT_EQ(results[1], want[1]);
  }
  expect_matches<T>(results[2], want[2], plain[2], 1e-12, "column");
}

template <class Queue, class T>
void check(Index rows, Index cols, int variant) {
  SCOPED_TRACE(testing::Message() << "[" << rows << ", " << cols << "], variant " << variant);
  const Index count = rows * cols;
  kernels::Adafactor config = config_of(variant);
  const Results results = on_queues<Queue>([&](const Queue& queue) {
    Guarded<T, Queue> weight(queue, normal<T>(count, 1, 0.5)), gradient(queue, count);
    Guarded<T, Queue> row(queue, std::vector<T>(static_cast<std::size_t>(rows), T(0)));
    Guarded<T, Queue> column(queue, std::vector<T>(static_cast<std::size_t>(cols), T(0)));
    for (config.step = 1; config.step <= 3; ++config.step) {
      std::vector<T> values =
          normal<T>(count, static_cast<std::uint64_t>(10 + config.step), static_cast<double>(config.step));
      gradient.write(values);
      const bool clear = config.step == 2;
      kernels::adafactor(queue, weight.data(), row.data(), column.data(), gradient.data(), config, clear, rows, cols);
      if (clear) std::fill(values.begin(), values.end(), T(0));
      EXPECT_EQ(gradient.values(), values);
    }
    EXPECT_TRUE(weight.intact() && gradient.intact() && row.intact() && column.intact());
    return Results{doubles(weight.values()), doubles(row.values()), doubles(column.values())};
  });
  expect_equal<T>(results, rows, cols, variant);
}

TEST(Adafactor, EqualsTheFormulaOverThreeSteps) {
  on_backends([]<class Queue, class T>() {
    if constexpr (!std::is_same_v<T, bf16>) {
      for (const auto& [rows, cols] : kCases) {
        const bool cpu = std::is_same_v<Queue, CpuQueue>;
        if (!cpu && rows > 1000) continue;  // slow where every thread is a fiber
        for (const int variant : {0, 1, 2}) {
          if (variant == 2 || rows * cols < 10000) check<Queue, T>(rows, cols, variant);
        }
      }
      check<Queue, T>(300, 130, 1);
      check<Queue, T>(150, 516, 2);
    }
  });
}

TEST(Adafactor, StepsOnTheDeviceWithoutTheHost) {
  on_backends([]<class Queue, class T>() {
    if constexpr (!std::is_same_v<Queue, CpuQueue> && std::is_same_v<T, float>) {
      for (const Case& shape : {Case{1, 132}, Case{65, 36}, Case{7, 33}}) {
        const Index rows = shape.rows, cols = shape.cols, count = rows * cols;
        const Results results = on_queues<Queue>([&](const Queue& queue) {
          Guarded<float, Queue> weight(queue, normal<float>(count, 1, 0.5)), gradient(queue, count);
          Guarded<float, Queue> row(queue, std::vector<float>(static_cast<std::size_t>(rows), 0.0f));
          Guarded<float, Queue> column(queue, std::vector<float>(static_cast<std::size_t>(cols), 0.0f));
          Guarded<bf16, Queue> copy(queue, count);
          Guarded<kernels::OptimizerStep, Queue> step(queue, 1);
          const auto run = [&](Index steps, bool skip, std::uint64_t seed, double scale) {
            gradient.write(normal<float>(count, seed, scale));
            kernels::OptimizerStep now;
            now.learning_rate = 0.01, now.steps = steps, now.gradient_scale = 0.25f, now.skip = skip;
            step.write({now});
            kernels::adafactor_step(queue, weight.data(), row.data(), column.data(), gradient.data(), copy.data(),
                                    step.data(), config_of(2), rows, cols);
            EXPECT_EQ(gradient.values(), std::vector<float>(static_cast<std::size_t>(count), 0.0f));
          };
          run(1, false, 11, 1);
          run(1, true, 99, 50);
          run(2, false, 12, 2);
          run(3, false, 13, 3);
          EXPECT_TRUE(weight.intact() && gradient.intact() && row.intact() && column.intact() && copy.intact());
          return Results{doubles(weight.values()), doubles(row.values()), doubles(column.values()),
                         doubles(copy.values())};
        });
        expect_equal<float>(results, rows, cols, 2);
        std::vector<double> copies;
        for (const double x : results[0]) copies.push_back(rounded<bf16>(x));
        EXPECT_EQ(results[3], copies);
      }
    }
  });
}

template <class T>
class AdafactorKernel : public testing::Test {};
using Types = testing::Types<float, double>;
TYPED_TEST_SUITE(AdafactorKernel, Types);

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
