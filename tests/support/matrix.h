// Matrices and pools for kernel tests: rows with gaps between them, guard words around, every number of threads.
#pragma once
#include <gtest/gtest.h>

#include <hwy/targets.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "kernels/queue.h"
#include "tests/support/guarded.h"
#include "tests/support/random.h"
#include "tests/support/rounding.h"
#include "tests/support/sanitizers.h"

namespace unfurl::tests {

/// [rows, cols] with `gap` elements of no row after each row. Guards and gaps must stay as they are.
template <class T, class Queue = kernels::CpuQueue>
class StridedMatrix {
 public:
  /// Uninitialised (NaN).
  StridedMatrix(const Queue& queue, Index rows, Index cols, Index gap)
      : rows_(rows), cols_(cols), stride_(cols + gap), buffer_(queue, rows * stride_) {}
  StridedMatrix(const Queue& queue, Index rows, Index cols, Index gap, const std::vector<T>& values)
      : StridedMatrix(queue, rows, cols, gap) {
    fill(values);
  }
  StridedMatrix(Index rows, Index cols, Index gap)
      : rows_(rows), cols_(cols), stride_(cols + gap), buffer_(rows * stride_) {}
  StridedMatrix(Index rows, Index cols, Index gap, const std::vector<T>& values) : StridedMatrix(rows, cols, gap) {
    fill(values);
  }

  kernels::Matrix<T> matrix() { return {buffer_.data(), stride_}; }
  operator kernels::Matrix<const T>() const { return {buffer_.data(), stride_}; }

  /// The elements, without the gaps.
  std::vector<T> values() const {
    const std::vector<T> all = buffer_.values();
    std::vector<T> out;
    for (Index r = 0; r < rows_; ++r) {
      const auto row = all.begin() + r * stride_;
      out.insert(out.end(), row, row + cols_);
    }
    return out;
  }

  bool intact() const {
    const std::vector<T> all = buffer_.values();
    for (Index r = 0; r < rows_; ++r) {
      const auto* bytes = reinterpret_cast<const unsigned char*>(all.data() + r * stride_ + cols_);
      for (std::size_t i = 0; i < static_cast<std::size_t>(stride_ - cols_) * sizeof(T); ++i) {
        if (bytes[i] != 0xff) return false;
      }
    }
    return buffer_.intact();
  }

 private:
  void fill(const std::vector<T>& values) {
    std::vector<T> all = buffer_.values();
    for (Index r = 0; r < rows_; ++r) std::copy_n(values.begin() + r * cols_, cols_, all.begin() + r * stride_);
    buffer_.write(all);
  }

  Index rows_, cols_, stride_;
  Guarded<T, Queue> buffer_;
};

/// Calls body() once for every instruction set that kernels are compiled for and this machine has.
template <class Body>
void on_targets(const Body& body) {
  for (const auto& choice : {std::pair{HWY_AVX3, "AVX-512"}, {HWY_AVX2, "AVX2"}, {HWY_SCALAR, "scalar"}}) {
    const auto target = choice.first;
    const char* const name = choice.second;
    hwy::SetSupportedTargetsForTest(0);
    if (target != HWY_SCALAR && (hwy::SupportedTargets() & target) == 0) continue;
    hwy::SetSupportedTargetsForTest(target);
    SCOPED_TRACE(name);
    body();
  }
  hwy::SetSupportedTargetsForTest(0);
}

template <class Results>
void expect_same_bits(const Results& first, const Results& again, const std::string& where) {
  ASSERT_EQ(again.size(), first.size());
  for (std::size_t i = 0; i < first.size(); ++i) {
    ASSERT_EQ(again[i].size(), first[i].size());
    const bool same =
        first[i].empty() || std::memcmp(again[i].data(), first[i].data(), first[i].size() * sizeof(first[i][0])) == 0;
    EXPECT_TRUE(same) << "result " << i << " differs " << where;
  }
}

/// The results of run(queue), a std::vector<std::vector<T>>, on a pool of one thread. Pools of 2, 3 and 5 threads must
/// give the same bits.
template <class Run>
auto on_pools(const Run& run) {
  static kernels::ThreadPool one(1), two(2, false), three(3, false), five(5, false);
  const auto first = run(kernels::CpuQueue(one));
  for (kernels::ThreadPool* pool : {&two, &three, &five}) {
    expect_same_bits(first, run(kernels::CpuQueue(*pool)), "on " + std::to_string(pool->threads()) + " threads");
  }
  return first;
}

/// Every element within tolerance * (1 + |want|); prints the worst one.
template <class T>
void expect_close(const std::vector<T>& got, const std::vector<double>& want, double tolerance,
                  const std::string& what) {
  ASSERT_EQ(got.size(), want.size()) << what;
  std::size_t worst = 0;
  double worst_error = -1;
  for (std::size_t i = 0; i < got.size(); ++i) {
    double error = std::abs(static_cast<double>(got[i]) - want[i]) / (1 + std::abs(want[i]));
    if (!(error == error)) error = 1e300;
    if (error > worst_error) worst_error = error, worst = i;
  }
  if (got.empty()) return;
  EXPECT_LE(worst_error, tolerance) << what << ": element " << worst << " is " << got[worst] << ", expected "
                                    << want[worst];
}

template <class T>
std::vector<double> doubles(const std::vector<T>& values) {
  return {values.begin(), values.end()};
}
inline std::vector<double> doubles(const std::vector<bf16>& values) {
  std::vector<double> out(values.size());
  std::transform(values.begin(), values.end(), out.begin(), [](bf16 v) { return static_cast<double>(to_float(v)); });
  return out;
}

/// The tolerance of elementary arithmetic in T, times `factor`.
template <class T>
constexpr double tolerance(double factor = 1) {
  return factor * (sizeof(T) == 4 ? 1e-6 : 2e-15);
}

struct MatrixShape {
  Index rows, cols;
};

/// Odd shapes around the widths of vectors, and some of several tasks.
inline const std::vector<MatrixShape>& odd_shapes() {
  static const std::vector<MatrixShape> few = {{1, 1}, {5, 33}, {33, 65}, {2, 1031}};
  if (kReduced) return few;
  static const std::vector<MatrixShape> shapes = {{1, 1},   {3, 1},   {2, 31},  {1, 32},    {5, 33},    {129, 63},
                                                  {33, 65}, {63, 64}, {31, 17}, {129, 129}, {40, 1024}, {2, 17000}};
  return shapes;
}

inline std::string text(MatrixShape shape) {
  return (testing::Message() << "[" << shape.rows << ", " << shape.cols << "]").GetString();
}

}  // namespace unfurl::tests
