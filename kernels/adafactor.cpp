// Three passes: the sums of squares of rows and columns, the length of the update, the update. Sums are double. The
// matrix is cut into tiles that depend on its shape alone, and partial sums are added in the order of the tiles.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/adafactor.cpp"
#include "hwy/foreach_target.h"
// Highway's order: foreach_target.h before highway.h.
#include "hwy/highway.h"

#ifndef UNFURL_KERNELS_ADAFACTOR_ONCE
#define UNFURL_KERNELS_ADAFACTOR_ONCE
#include <algorithm>
#include <cmath>

#include "kernels/adafactor.h"

namespace unfurl::kernels {
namespace {

/// weight -= rate * direction[r,c] + decay * weight, with direction = gradient * row_factor * column_factor.
template <class T>
struct Update {
  T row_factor;
  T rate;
  T decay;
};

}  // namespace
}  // namespace unfurl::kernels
#endif

HWY_BEFORE_NAMESPACE();
namespace unfurl::kernels::HWY_NAMESPACE {
namespace {
namespace hn = hwy::HWY_NAMESPACE;

template <class D64>
auto load_as_double(D64 d, const float* x) {
  return hn::PromoteTo(d, hn::LoadU(hn::Rebind<float, D64>(), x));
}
template <class D64>
auto load_as_double(D64 d, const double* x) {
  return hn::LoadU(d, x);
}

/// column[c] += x[c]^2; returns the sum over c.
template <class T>
double add_squares(double* column, const T* x, Index count) {
  const hn::ScalableTag<double> d;
  const auto lanes = static_cast<Index>(hn::Lanes(d));
  auto sum0 = hn::Zero(d), sum1 = sum0;
  const auto one_vector = [&](Index c) HWY_ATTR {
    const auto value = load_as_double(d, x + c);
    const auto square = hn::Mul(value, value);
    hn::StoreU(hn::Add(hn::LoadU(d, column + c), square), d, column + c);
    return square;
  };
  Index c = 0;
  for (; c + 2 * lanes <= count; c += 2 * lanes) {
    sum0 = hn::Add(sum0, one_vector(c));
    sum1 = hn::Add(sum1, one_vector(c + lanes));
  }
  double sum = hn::GetLane(hn::SumOfLanes(d, hn::Add(sum0, sum1)));
  for (; c < count; ++c) {
    const double square = static_cast<double>(x[c]) * static_cast<double>(x[c]);
    column[c] += square;
    sum += square;
  }
  return sum;
}

/// The sum of (x[c] * factor[c])^2; without factors, of x[c]^2.
template <class T>
double sum_squares(const T* x, const T* factor, Index count) {
  const hn::ScalableTag<double> d;
  const auto lanes = static_cast<Index>(hn::Lanes(d));
  auto sum0 = hn::Zero(d), sum1 = sum0;
  const auto one_vector = [&](Index c) HWY_ATTR {
    const auto value = load_as_double(d, x + c);
    return factor == nullptr ? value : hn::Mul(value, load_as_double(d, factor + c));
  };
  Index c = 0;
  for (; c + 2 * lanes <= count; c += 2 * lanes) {
    const auto a = one_vector(c), b = one_vector(c + lanes);
    sum0 = hn::MulAdd(a, a, sum0);
    sum1 = hn::MulAdd(b, b, sum1);
  }
  double sum = hn::GetLane(hn::SumOfLanes(d, hn::Add(sum0, sum1)));
  for (; c < count; ++c) {
    const double value = static_cast<double>(x[c]) * (factor == nullptr ? 1.0 : static_cast<double>(factor[c]));
    sum += value * value;
  }
  return sum;
}

template <class T>
void apply(T* weight, T* gradient, const T* column_factor, const Update<T>& u, bool clear, Index count) {
  const hn::ScalableTag<T> d;
  const auto lanes = static_cast<Index>(hn::Lanes(d));
  const auto row_factor = hn::Set(d, u.row_factor), rate = hn::Set(d, u.rate), decay = hn::Set(d, u.decay);
  Index c = 0;
  for (; c + lanes <= count; c += lanes) {
    const auto direction = hn::Mul(hn::Mul(hn::LoadU(d, gradient + c), hn::LoadU(d, column_factor + c)), row_factor);
    const auto w = hn::LoadU(d, weight + c);
    hn::StoreU(hn::NegMulAdd(rate, direction, hn::NegMulAdd(decay, w, w)), d, weight + c);
    if (clear) hn::StoreU(hn::Zero(d), d, gradient + c);
  }
  for (; c < count; ++c) {
    const T direction = gradient[c] * column_factor[c] * u.row_factor;
    weight[c] = (weight[c] - u.decay * weight[c]) - u.rate * direction;
    if (clear) gradient[c] = 0;
  }
}

// Dispatch is over plain functions.
double add_squares_float(double* column, const float* x, Index count) { return add_squares(column, x, count); }
double add_squares_double(double* column, const double* x, Index count) { return add_squares(column, x, count); }
double sum_squares_float(const float* x, const float* factor, Index count) { return sum_squares(x, factor, count); }
double sum_squares_double(const double* x, const double* factor, Index count) { return sum_squares(x, factor, count); }
void apply_float(float* weight, float* gradient, const float* factor, const Update<float>& u, bool clear, Index count) {
  apply(weight, gradient, factor, u, clear, count);
}
void apply_double(double* weight, double* gradient, const double* factor, const Update<double>& u, bool clear,
                  Index count) {
  apply(weight, gradient, factor, u, clear, count);
}

}  // namespace
}  // namespace unfurl::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace unfurl::kernels {
namespace {

HWY_EXPORT(add_squares_float);
HWY_EXPORT(add_squares_double);
HWY_EXPORT(sum_squares_float);
HWY_EXPORT(sum_squares_double);
HWY_EXPORT(apply_float);
HWY_EXPORT(apply_double);

double add_squares(double* column, const float* x, Index count) {
  return HWY_DYNAMIC_DISPATCH(add_squares_float)(column, x, count);
}
double add_squares(double* column, const double* x, Index count) {
  return HWY_DYNAMIC_DISPATCH(add_squares_double)(column, x, count);
}
double sum_squares(const float* x, const float* factor, Index count) {
  return HWY_DYNAMIC_DISPATCH(sum_squares_float)(x, factor, count);
}
double sum_squares(const double* x, const double* factor, Index count) {
  return HWY_DYNAMIC_DISPATCH(sum_squares_double)(x, factor, count);
}
void apply(float* weight, float* gradient, const float* factor, const Update<float>& u, bool clear, Index count) {
  HWY_DYNAMIC_DISPATCH(apply_float)(weight, gradient, factor, u, clear, count);
}
void apply(double* weight, double* gradient, const double* factor, const Update<double>& u, bool clear, Index count) {
  HWY_DYNAMIC_DISPATCH(apply_double)(weight, gradient, factor, u, clear, count);
}

/// About 65,536 elements a tile, at most kWidth columns wide: at least 32 rows share one partial sum per column.
struct Tiles {
  static constexpr Index kElements = 65536, kWidth = 2048;
  Index rows, cols;
  Index width = std::clamp<Index>(cols, 1, kWidth), height = kElements / width;
  Index across = (cols + width - 1) / width, down = (rows + height - 1) / height;

  template <class Task>  // task(tile, first row, end row, first column, number of columns)
  void for_each(ThreadPool& pool, const Task& task) const {
    pool.parallel_for(across * down, [&](Index tile) {
      const Index row = tile / across * height, column = tile % across * width;
      task(tile, row, std::min(rows, row + height), column, std::min(width, cols - column));
    });
  }
};

/// 1 / sqrt(v); where nothing but zero gradients was ever seen and eps1 is 0, the update is 0.
double inverse_root(double v) { return v > 0 ? 1 / std::sqrt(v) : 0.0; }

}  // namespace

template <class Queue, class T>
void adafactor(const Queue& queue, T* weight, T* row, T* column, T* gradient, const Adafactor& config, bool clear,
               Index rows, Index cols) {
  if (rows == 0 || cols == 0) return;
  const Tiles tiles{.rows = rows, .cols = cols};
  const Index across = tiles.across, count = across * tiles.down;
  const bool factored = rows > 1;

  // Partial sums: of columns by tile row, of rows by tile column, of updates and weights by tile; then the factors.
  const Index doubles = tiles.down * cols + rows * across + 2 * count;
  const std::size_t bytes = static_cast<std::size_t>(doubles) * sizeof(double);
  const std::size_t factors = static_cast<std::size_t>(rows + cols) * sizeof(T);
  auto* column_sums = static_cast<double*>(queue.scratch(bytes + factors));
  double* row_sums = column_sums + tiles.down * cols;
  double* update_sums = row_sums + rows * across;
  double* weight_sums = update_sums + count;
  T* column_factor = reinterpret_cast<T*>(weight_sums + count);
  T* row_factor = column_factor + cols;

  tiles.for_each(queue.pool(), [&](Index tile, Index r0, Index r1, Index c0, Index width) {
    double* sums = column_sums + tile / across * cols + c0;
    std::fill_n(sums, width, 0.0);
    double weights = 0;
    for (Index r = r0; r < r1; ++r) {
      row_sums[r * across + tile % across] = add_squares(sums, gradient + r * cols + c0, width);
      if (config.parameter_scale) weights += sum_squares(weight + r * cols + c0, static_cast<T*>(nullptr), width);
    }
    weight_sums[tile] = weights;
  });

  const double beta2 = 1 - std::pow(static_cast<double>(config.step), -config.decay);
  const double scale2 = config.gradient_scale * config.gradient_scale;
  const auto moving_mean = [&](T& state, double sum, Index terms) {
    const double mean = sum * scale2 / static_cast<double>(terms) + config.eps1;
    state = static_cast<T>(beta2 * static_cast<double>(state) + (1 - beta2) * mean);
    return static_cast<double>(state);
  };
  queue.pool().parallel_for(across, [&](Index chunk) {
    const Index begin = chunk * tiles.width, end = std::min(cols, begin + tiles.width);
    for (Index down = 1; down < tiles.down; ++down) {
      for (Index c = begin; c < end; ++c) column_sums[c] += column_sums[down * cols + c];
    }
    for (Index c = begin; c < end; ++c) {
      column_factor[c] = static_cast<T>(inverse_root(moving_mean(column[c], column_sums[c], rows)));
    }
  });
  if (factored) {
    double total = 0;
    for (Index r = 0; r < rows; ++r) {
      double sum = 0;
      for (Index chunk = 0; chunk < across; ++chunk) sum += row_sums[r * across + chunk];
      total += moving_mean(row[r], sum, cols);
    }
    const double root = std::sqrt(total / static_cast<double>(rows));
    for (Index r = 0; r < rows; ++r) {
      row_factor[r] = static_cast<T>(root * inverse_root(static_cast<double>(row[r])));
    }
  } else {
    row_factor[0] = 1;
  }

  // The gradient's scale enters here and at the end, so that no pass has to multiply by it.
  tiles.for_each(queue.pool(), [&](Index tile, Index r0, Index r1, Index c0, Index width) {
    double sum = 0;
    for (Index r = r0; r < r1; ++r) {
      const double factor = static_cast<double>(row_factor[r]);
      sum += factor * factor * sum_squares(gradient + r * cols + c0, column_factor + c0, width);
    }
    update_sums[tile] = sum;
  });
  double updates = 0, weights = 0;
  for (Index tile = 0; tile < count; ++tile) {
    updates += update_sums[tile];
    weights += weight_sums[tile];
  }
  const double elements = static_cast<double>(rows) * static_cast<double>(cols);
  const double rms_update = std::sqrt(updates * scale2 / elements);
  const double parameter_scale = config.parameter_scale ? std::max(config.eps2, std::sqrt(weights / elements)) : 1.0;
  const double rate = config.learning_rate * parameter_scale * config.gradient_scale /
                      std::max(1.0, rms_update / config.clip_threshold);

  tiles.for_each(queue.pool(), [&](Index, Index r0, Index r1, Index c0, Index width) {
    for (Index r = r0; r < r1; ++r) {
      const Update<T> u{row_factor[r], static_cast<T>(rate),
                        static_cast<T>(config.learning_rate * config.weight_decay)};
      apply(weight + r * cols + c0, gradient + r * cols + c0, column_factor + c0, u, clear, width);
    }
  });
}

template void adafactor(const CpuQueue&, float*, float*, float*, float*, const Adafactor&, bool, Index, Index);
template void adafactor(const CpuQueue&, double*, double*, double*, double*, const Adafactor&, bool, Index, Index);

}  // namespace unfurl::kernels
#endif  // HWY_ONCE
