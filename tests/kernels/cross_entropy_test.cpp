// cross_entropy against the formula in long double: losses, gradients, strided rows, extreme logits.
#include "kernels/cross_entropy.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "tests/support/guarded.h"
#include "tests/support/matrix.h"
#include "tests/support/random.h"

namespace unfurl::tests {
namespace {

using kernels::CpuQueue;
using kernels::ThreadPool;

template <class T>
struct Result {
  Guarded<T> loss, logits;
};

template <class T>
struct Input {
  Index rows, cols, stride;
  std::vector<T> logits;
  std::vector<std::int32_t> targets;
  std::vector<T> weight;
};

template <class T>
Input<T> input(Index rows, Index cols, Index margin, double scale) {
  Input<T> x{rows, cols, cols + margin, {}, integers(rows, static_cast<std::int32_t>(cols), 2), normal<T>(rows, 3)};
  x.logits = normal<T>(rows * x.stride, 1, scale);
  if (rows > 2) x.weight[1] = 0;
  return x;
}

template <class T>
Result<T> run(ThreadPool& pool, const Input<T>& x, bool gradient) {
  Result<T> out{Guarded<T>(x.rows), Guarded<T>(x.logits)};
  kernels::cross_entropy<CpuQueue, T>(CpuQueue(pool), out.loss.data(), {out.logits.data(), x.stride}, x.targets.data(),
                                      x.weight.data(), gradient, x.rows, x.cols);
  EXPECT_TRUE(out.loss.intact() && out.logits.intact());
  return out;
}

template <class T>
void check(const Input<T>& x, double tolerance) {
  ThreadPool pool(2, false);
  const auto with = run(pool, x, true), without = run(pool, x, false);
  for (Index r = 0; r < x.rows; ++r) {
    SCOPED_TRACE(::testing::Message() << x.rows << " x " << x.cols << " row " << r);
    const T* logits = x.logits.data() + r * x.stride;
    const auto i = static_cast<std::size_t>(r);
    const long double weight = x.weight[i];
    long double top = logits[0], sum = 0;
    for (Index c = 0; c < x.cols; ++c) top = std::max<long double>(top, logits[c]);
    for (Index c = 0; c < x.cols; ++c) sum += std::exp(logits[c] - top);
    const long double loss = weight * (top + std::log(sum) - logits[x.targets[i]]);
    const double size = tolerance * (1 + std::abs(static_cast<double>(loss)) + std::abs(static_cast<double>(weight)));
    EXPECT_NEAR(with.loss[r], static_cast<double>(loss), size);
    EXPECT_EQ(with.loss[r], without.loss[r]);
    for (Index c = 0; c < x.stride; ++c) {
      const T got = with.logits[r * x.stride + c];
      EXPECT_EQ(without.logits[r * x.stride + c], logits[c]);
      if (c >= x.cols) {
        EXPECT_EQ(got, logits[c]);
      } else {
        const long double expected = weight * (std::exp(logits[c] - top) / sum - (c == x.targets[i] ? 1 : 0));
        EXPECT_NEAR(got, static_cast<double>(expected), tolerance * std::abs(static_cast<double>(weight)));
      }
    }
  }
}

TEST(CrossEntropy, MatchesTheFormula) {
  on_targets([] {
    for (const Index cols : {1, 2, 3, 7, 8, 15, 16, 17, 31, 33, 63, 65, 127, 129, 4097}) {
      for (const Index margin : {0, 3}) {
        for (const Index rows : {1, 5}) {
          check(input<float>(rows, cols, margin, 3), 2e-6);
          check(input<double>(rows, cols, margin, 3), 1e-14);
        }
      }
    }
    check(input<float>(700, 33, 1, 1), 2e-6);  // several rows a task
  });
}

TEST(CrossEntropy, LargeLogitsAndMaskedOnes) {
  on_targets([] {
    check(input<float>(3, 129, 0, 1000), 2e-6);
    check(input<double>(3, 129, 0, 1000), 1e-14);
    auto x = input<float>(3, 33, 0, 2);
    for (Index c = 0; c < 33; c += 2) {
      if (c != x.targets[0]) x.logits[static_cast<std::size_t>(c)] = -std::numeric_limits<float>::infinity();
    }
    check(x, 2e-6);
  });
}

TEST(CrossEntropy, WhatIsNotANumberStaysVisible) {
  on_targets([] {
    ThreadPool pool(1, false);
    for (const Index at : {0, 5, 32}) {
      for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
        auto x = input<float>(2, 33, 0, 1);
        x.logits[static_cast<std::size_t>(at)] = bad;
        const auto out = run(pool, x, true);
        EXPECT_TRUE(std::isnan(out.loss[0])) << at;
        for (Index c = 0; c < 33; ++c) EXPECT_TRUE(std::isnan(out.logits[c])) << at << " " << c;
        EXPECT_TRUE(std::isfinite(out.loss[1]));
      }
    }
    auto x = input<float>(3, 33, 0, 1);  // row 1 has weight 0
    x.logits[40] = std::numeric_limits<float>::quiet_NaN();
    const auto out = run(pool, x, true);
    EXPECT_EQ(out.loss[1], 0);
    for (Index c = 33; c < 66; ++c) EXPECT_EQ(out.logits[c], 0);
  });
}

TEST(CrossEntropy, SameBitsOnAnyNumberOfThreads) {
  const auto x = input<float>(97, 1001, 0, 2);
  ThreadPool one(1, false);
  const auto expected = run(one, x, true);
  for (const int threads : {2, 3, 5}) {
    ThreadPool pool(threads, false);
    const auto got = run(pool, x, true);
    EXPECT_EQ(std::memcmp(got.loss.data(), expected.loss.data(), 97 * sizeof(float)), 0);
    EXPECT_EQ(std::memcmp(got.logits.data(), expected.logits.data(), 97 * 1001 * sizeof(float)), 0);
  }
}

}  // namespace
}  // namespace unfurl::tests
