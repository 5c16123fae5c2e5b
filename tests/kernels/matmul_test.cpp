// matmul against a plain sum in double: every transposition, odd shapes, views wider than the matrix, with and without
// accumulation; every path (few rows, slivers, packed); the same bits with any number of threads.
#include "kernels/matmul.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstring>
#include <limits>

#include "tests/support/backends.h"

namespace unfurl::tests {
namespace {

using kernels::CpuQueue;
using kernels::ThreadPool;

struct Case {
  Index m, n, k;
  bool transpose_a, transpose_b, accumulate;
  Index margin;  // how much wider than the matrix its rows are

  std::string name() const {
    return std::to_string(m) + "x" + std::to_string(n) + "x" + std::to_string(k) + (transpose_a ? " a^T" : "") +
           (transpose_b ? " b^T" : "") + (accumulate ? " accumulate" : "") + " margin " + std::to_string(margin);
  }
};

/// rows x cols normal numbers; the margin stays NaN, so a read of it shows in the result.
template <class T>
Guarded<T> matrix(Index rows, Index cols, Index margin, std::uint64_t seed) {
  Guarded<T> out(rows * (cols + margin));
  const auto values = normal<T>(rows * cols, seed);
  for (Index r = 0; r < rows; ++r) {
    for (Index c = 0; c < cols; ++c) out[r * (cols + margin) + c] = values[static_cast<std::size_t>(r * cols + c)];
  }
  return out;
}

template <class T>
Guarded<T> product(ThreadPool& pool, const Case& x) {
  const Index a_rows = x.transpose_a ? x.k : x.m, a_cols = x.transpose_a ? x.m : x.k;
  const Index b_rows = x.transpose_b ? x.n : x.k, b_cols = x.transpose_b ? x.k : x.n;
  const auto a = matrix<T>(a_rows, a_cols, x.margin, 1), b = matrix<T>(b_rows, b_cols, x.margin, 2);
  // Where c is to be overwritten it starts as NaN: 0 * c must not be computed.
  auto c = x.accumulate ? matrix<T>(x.m, x.n, x.margin, 3) : Guarded<T>(x.m * (x.n + x.margin));
  const CpuQueue queue(pool);
  kernels::matmul<CpuQueue, T>(queue, {c.data(), x.n + x.margin}, {a.data(), a_cols + x.margin}, x.transpose_a,
                               {b.data(), b_cols + x.margin}, x.transpose_b, x.m, x.n, x.k, x.accumulate);
  EXPECT_TRUE(c.intact()) << x.name();
  return c;
}

template <class T>
void check(ThreadPool& pool, const Case& x) {
  const Index a_cols = x.transpose_a ? x.m : x.k, b_cols = x.transpose_b ? x.k : x.n;
  const auto a = matrix<T>(x.transpose_a ? x.k : x.m, a_cols, x.margin, 1);
  const auto b = matrix<T>(x.transpose_b ? x.n : x.k, b_cols, x.margin, 2);
  const auto before = matrix<T>(x.m, x.n, x.margin, 3);
  const auto c = product<T>(pool, x);
  for (Index i = 0; i < x.m; ++i) {
    for (Index j = 0; j < x.n; ++j) {
      const Index at = i * (x.n + x.margin) + j;
      double sum = x.accumulate ? double{before[at]} : 0.0, size = std::abs(sum);
      for (Index l = 0; l < x.k; ++l) {
        const double term = double{x.transpose_a ? a[l * (a_cols + x.margin) + i] : a[i * (a_cols + x.margin) + l]} *
                            double{x.transpose_b ? b[j * (b_cols + x.margin) + l] : b[l * (b_cols + x.margin) + j]};
        sum += term;
        size += std::abs(term);
      }
      const double bound = static_cast<double>(x.k + 2) * std::numeric_limits<T>::epsilon() * size;
      ASSERT_NEAR(c[at], sum, bound) << x.name() << " at " << i << ", " << j;
    }
    for (Index j = x.n; j < x.n + x.margin; ++j) {
      ASSERT_TRUE(std::isnan(c[i * (x.n + x.margin) + j])) << x.name() << ": wrote beside row " << i;
    }
  }
}

template <class T>
void check_shapes(const std::vector<std::array<Index, 3>>& shapes) {
  ThreadPool pool(2, false);
  for (const auto& [m, n, k] : shapes) {
    for (int bits = 0; bits < 16; ++bits) {
      check<T>(pool, {m, n, k, (bits & 1) != 0, (bits & 2) != 0, (bits & 4) != 0, (bits & 8) != 0 ? 5 : 0});
    }
  }
}

const std::vector<std::array<Index, 3>> kShapes = {
    {1, 1, 1},     {1, 31, 33},  {2, 65, 127},   {3, 13, 64},  {4, 129, 31}, {5, 63, 1},
    {6, 7, 200},   {7, 33, 65},  {8, 31, 9},     {9, 33, 129}, {31, 63, 5},  {33, 1, 127},
    {65, 129, 33}, {127, 65, 1}, {129, 127, 63}, {64, 64, 64}, {300, 1, 3}};

TEST(Matmul, MatchesTheSumInDoubleF32) {
  on_targets([] { check_shapes<float>(kShapes); });
}
TEST(Matmul, MatchesTheSumInDoubleF64) {
  on_targets([] { check_shapes<double>(kShapes); });
}

TEST(Matmul, AroundTheTilesOfEveryInstructionSet) {
  // Register tiles are 2 x 2, 6 x 16 and 8 x 48 (a half of the columns for double), blocks of k 256 and 384 long, four
  // of them a task; rows of 1,024 floats, or 512 doubles, are packed.
  on_targets([] {
    check_shapes<float>({{32, 48, 2}, {40, 47, 33}, {41, 49, 257}, {47, 95, 9}, {33, 385, 3}, {34, 1024, 5}});
    check_shapes<double>({{40, 25, 33}, {33, 49, 5}, {34, 512, 3}});
    check_shapes<float>({{33, 32, 1601}});
  });
}

TEST(Matmul, ManyTiles) {
  // More than one tile each way, none of them whole; and long sums.
  check_shapes<float>({{301, 577, 17}, {70, 70, 1100}});
  check_shapes<double>({{193, 210, 31}});
}

TEST(Matmul, MoreThanIsPackedAtOnce) {
  ThreadPool pool(3, false);
  for (const bool accumulate : {false, true}) {
    check<float>(pool, {33, 8300, 40, false, true, accumulate, 1});
    check<float>(pool, {8300, 33, 40, true, false, accumulate, 0});
    check<float>(pool, {35, 34, 30001, false, false, accumulate, 3});
    check<double>(pool, {34, 33, 30001, true, true, accumulate, 0});
  }
}

TEST(Matmul, EmptySumsOverwriteOrKeep) {
  ThreadPool pool(2, false);
  for (const Index m : {1, 9}) {
    const auto zeros = product<float>(pool, {m, 5, 0, false, true, false, 2});
    const auto kept = product<float>(pool, {m, 5, 0, false, true, true, 2});
    const auto before = matrix<float>(m, 5, 2, 3);
    for (Index i = 0; i < m; ++i) {
      for (Index j = 0; j < 5; ++j) {
        EXPECT_EQ(zeros[i * 7 + j], 0);
        EXPECT_EQ(kept[i * 7 + j], before[i * 7 + j]);
      }
    }
  }
  EXPECT_EQ(product<float>(pool, {0, 5, 3, false, true, false, 0}).size(), 0);
  EXPECT_EQ(product<float>(pool, {5, 0, 3, true, true, false, 0}).size(), 0);
}

TEST(Matmul, SameBitsOnAnyNumberOfThreads) {
  const std::vector<Case> cases = {{1, 777, 129, false, true, false, 0},   {7, 513, 65, false, true, true, 1},
                                   {301, 260, 127, false, true, false, 0}, {129, 384, 63, false, false, true, 3},
                                   {384, 129, 65, true, false, true, 0},   {65, 33, 300, true, true, false, 0},
                                   {64, 8300, 300, false, true, true, 0},  {40, 34, 30001, false, false, false, 0}};
  for (const Case& x : cases) {
    ThreadPool one(1, false);
    const auto expected = product<float>(one, x);
    const auto expected_double = product<double>(one, x);
    for (const int threads : {2, 3, 5}) {
      ThreadPool pool(threads, false);
      const auto got = product<float>(pool, x);
      const auto got_double = product<double>(pool, x);
      EXPECT_EQ(std::memcmp(got.data(), expected.data(), static_cast<std::size_t>(got.size()) * sizeof(float)), 0)
          << x.name() << " on " << threads;
      EXPECT_EQ(
          std::memcmp(got_double.data(), expected_double.data(), static_cast<std::size_t>(got.size()) * sizeof(double)),
          0)
          << x.name() << " on " << threads;
    }
  }
}

TEST(Matmul, ARowHasTheSameBitsAmongMoreRows) {
  on_targets([] {
    ThreadPool pool(2, false);
    for (const bool transpose_b : {false, true}) {
      const auto few = product<float>(pool, {33, 67, 400, false, transpose_b, false, 0});
      const auto many = product<float>(pool, {75, 67, 400, false, transpose_b, false, 0});
      EXPECT_EQ(std::memcmp(few.data(), many.data(), static_cast<std::size_t>(few.size()) * sizeof(float)), 0);
    }
  });
}

TEST(Matmul, ARowHasTheSameBitsAloneAndInABatch) {
  on_targets([] {
    ThreadPool pool(2, false);
    const CpuQueue queue(pool);
    const Index n = 77, k = 131;
    const auto a = normal(8 * k, 4), b = normal(n * k, 5);
    std::vector<float> alone(static_cast<std::size_t>(n)), batch(static_cast<std::size_t>(8 * n));
    kernels::matmul<CpuQueue, float>(queue, {alone.data(), n}, {a.data(), k}, false, {b.data(), k}, true, 1, n, k,
                                     false);
    for (Index m = 2; m <= 8; ++m) {
      kernels::matmul<CpuQueue, float>(queue, {batch.data(), n}, {a.data(), k}, false, {b.data(), k}, true, m, n, k,
                                       false);
      EXPECT_EQ(std::memcmp(alone.data(), batch.data(), alone.size() * sizeof(float)), 0) << m;
    }
  });
}

template <class C>
C typed_nan() {
  if constexpr (std::is_same_v<C, bf16>) {
    return to_bf16(std::numeric_limits<float>::quiet_NaN());
  } else {
    return std::numeric_limits<C>::quiet_NaN();
  }
}

/// The CUDA backends. c of C, which may be wider than the operands' T.
template <class Queue, class T, class C>
void check_device(const Case& x) {
  SCOPED_TRACE(x.name() + (sizeof(C) > sizeof(T) ? " into float" : ""));
  const auto a = normal<T>(x.m * x.k, 1), b = normal<T>(x.n * x.k, 2);
  const auto before = normal<C>(x.m * x.n, 3);
  const Index a_rows = x.transpose_a ? x.k : x.m, b_rows = x.transpose_b ? x.n : x.k;
  const Results results = on_queues<Queue>([&](const Queue& queue) {
    const StridedMatrix<T, Queue> a_in(queue, a_rows, x.transpose_a ? x.m : x.k, x.margin, a);
    const StridedMatrix<T, Queue> b_in(queue, b_rows, x.transpose_b ? x.k : x.n, x.margin, b);
    // Where c is to be overwritten it starts as NaN: 0 * c must not be computed.
    const std::vector<C> nothing(before.size(), typed_nan<C>());
    StridedMatrix<C, Queue> c(queue, x.m, x.n, x.margin, x.accumulate ? before : nothing);
    kernels::matmul<Queue, T, C>(queue, c.matrix(), a_in, x.transpose_a, b_in, x.transpose_b, x.m, x.n, x.k,
                                 x.accumulate);
    EXPECT_TRUE(c.intact());
    return Results{doubles(c.values())};
  });
  const auto left = doubles(a), right = doubles(b), start = doubles(before);
  std::vector<double> exact, plain;
  for (Index i = 0; i < x.m; ++i) {
    for (Index j = 0; j < x.n; ++j) {
      double sum = 0;
      float sum_in_float = 0;
      for (Index l = 0; l < x.k; ++l) {
        const double term = left[static_cast<std::size_t>(x.transpose_a ? l * x.m + i : i * x.k + l)] *
                            right[static_cast<std::size_t>(x.transpose_b ? j * x.k + l : l * x.n + j)];
        sum += term;
        sum_in_float += static_cast<float>(term);
      }
      const double onto = x.accumulate ? start[static_cast<std::size_t>(i * x.n + j)] : 0;
      exact.push_back(onto + sum);
      plain.push_back(rounded<C>(static_cast<double>(static_cast<float>(onto) + sum_in_float)));
    }
  }
  expect_matches<C>(results[0], exact, plain, 0, "c");
}

TEST(Matmul, MatchesTheSumInDoubleOnCuda) {
  on_backends([]<class Queue, class T>() {
    if constexpr (!std::is_same_v<Queue, CpuQueue>) {
      for (const auto& [m, n, k] : std::vector<std::array<Index, 3>>{
               {1, 1, 1}, {1, 31, 33}, {2, 65, 127}, {3, 13, 64}, {5, 9, 1}, {7, 33, 0}, {9, 33, 129}, {65, 40, 33}}) {
        for (int bits = 0; bits < 16; ++bits) {
          const Case x{m, n, k, (bits & 1) != 0, (bits & 2) != 0, (bits & 4) != 0, (bits & 8) != 0 ? 5 : 0};
          check_device<Queue, T, T>(x);
          if constexpr (std::is_same_v<T, bf16>) check_device<Queue, T, float>(x);
        }
      }
      // Few rows: whole vectors, more than a lane has in flight, and a rest.
      for (Index m = 1; m <= 8; ++m) check_device<Queue, T, T>({m, 11, 2320, false, true, m % 2 == 0, 8});
      check_device<Queue, T, T>({3, 16, 1029, false, true, false, 3});
    }
  });
}

TEST(Matmul, ARowHasTheSameBitsAloneAndInABatchOnCuda) {
  on_backends([]<class Queue, class T>() {
    if constexpr (!std::is_same_v<Queue, CpuQueue>) {
      const Index n = 13, k = 520;
      const std::vector<T> a = normal<T>(8 * k, 4), b = normal<T>(n * k, 5);
      const Results results = on_queues<Queue>([&](const Queue& queue) {
        const Guarded<T, Queue> a_in(queue, a), b_in(queue, b);
        Results rows;
        for (Index m = 1; m <= 8; ++m) {
          Guarded<T, Queue> c(queue, m * n);
          kernels::matmul<Queue, T>(queue, {c.data(), n}, {a_in.data(), k}, false, {b_in.data(), k}, true, m, n, k,
                                    false);
          rows.push_back(doubles(c.values()));
          rows.back().resize(static_cast<std::size_t>(n));
        }
        return rows;
      });
      for (const auto& row : results) EXPECT_EQ(row, results[0]);
    }
  });
}

}  // namespace
}  // namespace unfurl::tests
