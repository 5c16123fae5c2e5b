// cross_entropy against the formula in long double: losses, gradients, strided rows, extreme logits.
#include "kernels/cross_entropy.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/support/backends.h"

namespace unfurl::tests {
namespace {

using Doubles = std::vector<double>;

template <class T>
T element(double value) {
  if constexpr (std::is_same_v<T, bf16>) {
    return to_bf16(static_cast<float>(value));
  } else {
    return static_cast<T>(value);
  }
}

template <class T>
struct Input {
  Index rows, cols, gap;
  std::vector<T> logits;
  std::vector<std::int32_t> targets;
  std::vector<kernels::Accumulator<T>> weight;
};

template <class T>
Input<T> input(Index rows, Index cols, Index gap, double scale) {
  Input<T> x{rows,
             cols,
             gap,
             normal<T>(rows * cols, 1, scale),
             integers(rows, static_cast<std::int32_t>(cols), 2),
             normal<kernels::Accumulator<T>>(rows, 3)};
  if (rows > 2) x.weight[1] = 0;
  return x;
}

struct Output {
  Doubles loss, logits;
};

template <class Queue, class T>
Output run(const Input<T>& x, bool gradient) {
  using Sum = kernels::Accumulator<T>;
  const Results results = on_queues<Queue>([&](const Queue& queue) {
    const Guarded<std::int32_t, Queue> targets(queue, x.targets);
    const Guarded<Sum, Queue> weight(queue, x.weight);
    Guarded<Sum, Queue> loss(queue, x.rows);
    StridedMatrix<T, Queue> logits(queue, x.rows, x.cols, x.gap, x.logits);
    kernels::cross_entropy<Queue, T>(queue, loss.data(), logits.matrix(), targets.data(), weight.data(), gradient,
                                     x.rows, x.cols);
    EXPECT_TRUE(loss.intact() && logits.intact());
    return Results{doubles(loss.values()), doubles(logits.values())};
  });
  return {results[0], results[1]};
}

/// In S; the gradient is rounded to R.
template <class S, class R, class T>
Output reference(const Input<T>& x) {
  Output out;
  const Doubles logits = doubles(x.logits);
  for (Index r = 0; r < x.rows; ++r) {
    const double* row = logits.data() + r * x.cols;
    const auto i = static_cast<std::size_t>(r);
    const S weight = static_cast<S>(x.weight[i]);
    S top = static_cast<S>(row[0]), sum = 0;
    for (Index c = 0; c < x.cols; ++c) top = std::max(top, static_cast<S>(row[c]));
    for (Index c = 0; c < x.cols; ++c) sum += std::exp(static_cast<S>(row[c]) - top);
    const S margin = top - static_cast<S>(row[x.targets[i]]);
    out.loss.push_back(weight == 0 ? 0 : static_cast<double>(weight * (std::log(sum) + margin)));
    for (Index c = 0; c < x.cols; ++c) {
      const S p = std::exp(static_cast<S>(row[c]) - top) / sum;
      out.logits.push_back(rounded<R>(static_cast<double>(weight * (p - (c == x.targets[i] ? 1 : 0)))));
    }
  }
  return out;
}

template <class Queue, class T>
void check(const Input<T>& x) {
  SCOPED_TRACE(text(MatrixShape{x.rows, x.cols}) + " gap " + std::to_string(x.gap));
  const Output with = run<Queue>(x, true), without = run<Queue>(x, false);
  const Output exact = reference<long double, double>(x), plain = reference<float, T>(x);
  expect_matches<T>(with.loss, exact.loss, plain.loss, 2e-14, "loss");
  EXPECT_EQ(with.loss, without.loss);
  EXPECT_EQ(without.logits, doubles(x.logits));
  expect_matches<T>(with.logits, exact.logits, plain.logits, 2e-14, "gradient");
}

TEST(CrossEntropy, MatchesTheFormula) {
  on_backends([]<class Queue, class T>() {
    for (const Index cols : {1, 2, 3, 7, 8, 15, 16, 17, 31, 33, 63, 65, 127, 129, 4097}) {
      check<Queue>(input<T>(1, cols, 0, 3));
      check<Queue>(input<T>(5, cols, cols % 2 == 0 ? 8 : 3, 3));
    }
    check<Queue>(input<T>(300, 33, 1, 1));  // several rows a task
  });
}

// Rows of whole vectors: as many as shared memory holds, and more.
TEST(CrossEntropy, RowsThatStayInSharedMemoryAndWider) {
  on_backends([]<class Queue, class T>() {
    for (const Index cols : {264, 2056, 4096}) check<Queue>(input<T>(4, cols, 8, 3));
    check<Queue>(input<T>(1, 32000, 0, 3));
    // 48 KiB of a GPU's shared memory: with what the kernel has besides it must be opted in for more.
    for (const Index cols : {12288, 24576}) check<Queue>(input<T>(1, cols, 0, 3));
    if (!std::is_same_v<Queue, kernels::CpuQueue>) check<Queue>(input<T>(1, 82000, 0, 3));
  });
}

TEST(CrossEntropy, LargeLogitsAndMaskedOnes) {
  on_backends([]<class Queue, class T>() {
    for (const Index gap : {0, 3}) {
      check<Queue>(input<T>(3, 129, gap, 1000));
      check<Queue>(input<T>(3, 128, gap, 1000));
      auto x = input<T>(3, 80, gap, 2);
      for (Index c = 0; c < 80; ++c) {
        if (c != x.targets[0] && c != 7) {
          x.logits[static_cast<std::size_t>(c)] = element<T>(-std::numeric_limits<double>::infinity());
        }
      }
      check<Queue>(x);
    }
  });
}

TEST(CrossEntropy, WhatIsNotANumberStaysVisible) {
  on_backends([]<class Queue, class T>() {
    using Limits = std::numeric_limits<double>;
    for (const Index cols : {33, 40}) {
      for (const Index at : {0, 5, 32}) {
        for (const double bad : {Limits::quiet_NaN(), Limits::infinity()}) {
          auto x = input<T>(2, cols, 0, 1);
          x.logits[static_cast<std::size_t>(at)] = element<T>(bad);
          const Output out = run<Queue>(x, true);
          EXPECT_TRUE(std::isnan(out.loss[0])) << at;
          for (Index c = 0; c < cols; ++c) EXPECT_TRUE(std::isnan(out.logits[static_cast<std::size_t>(c)])) << c;
          EXPECT_TRUE(std::isfinite(out.loss[1]));
        }
      }
      auto x = input<T>(3, cols, 0, 1);  // row 1 has weight 0
      x.logits[static_cast<std::size_t>(cols + 7)] = element<T>(Limits::quiet_NaN());
      for (Index c = 0; c < cols; ++c) x.logits[static_cast<std::size_t>(c)] = element<T>(-Limits::infinity());
      const Output out = run<Queue>(x, true);
      EXPECT_EQ(out.loss[1], 0);
      for (Index c = 0; c < cols; ++c) {
        EXPECT_EQ(out.logits[static_cast<std::size_t>(cols + c)], 0);
        EXPECT_TRUE(std::isnan(out.logits[static_cast<std::size_t>(c)])) << c;
      }
      EXPECT_TRUE(std::isnan(out.loss[0]));
    }
  });
}

}  // namespace
}  // namespace unfurl::tests
