// Five kernels: the sums of squares of rows and columns by tiles; the moving means; the length of the update by tiles;
// its scale; the update. Sums are double, over tiles that the shape alone fixes, added in order.
#include "kernels/adafactor.h"

#include "kernels/device/reduce.h"
#include "kernels/map.cuh"

namespace unfurl::kernels {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / 32;
constexpr int kHeight = 64;                // rows of a tile
constexpr int kColumns = 4;                // of a lane
constexpr int kTileWidth = 32 * kColumns;  // columns of a tile

/// What is known once the update's length is.
struct Scalars {
  float rate;   // of gradient * row_factor * column_factor
  float decay;  // of the weight
};

struct Step {
  double learning_rate, gradient_scale, steps;
  bool skip;
};

struct Work {
  float *weight, *row, *column, *gradient;
  bf16* copy;
  const OptimizerStep* device;  // null: `fixed` holds
  Step fixed;
  Adafactor config;
  bool clear;
  Index rows, cols, across, down;
  // Scratch.
  double* column_sums;   // [down, cols]
  double* row_sums;      // [rows, across]
  double* update_sums;   // [down * across]
  double* weight_sums;   // [down * across]
  double* row_totals;    // [row blocks]: sums of R
  float* column_factor;  // [cols]: 1 / sqrt(C)
  float* row_factor;     // [rows]: 1 / sqrt(R)
  Scalars* scalars;

  UNFURL_DEVICE Step step() const {
    if (device == nullptr) return fixed;
    return {device->learning_rate, static_cast<double>(device->gradient_scale), static_cast<double>(device->steps),
            device->skip != 0};
  }
  UNFURL_DEVICE Index row_blocks() const { return rows > 1 ? (rows + kThreads - 1) / kThreads : 0; }
  UNFURL_DEVICE Index column_blocks() const { return (cols + kThreads - 1) / kThreads; }
};

UNFURL_DEVICE double square(float value) { return static_cast<double>(value) * static_cast<double>(value); }

/// 1 / sqrt(v); where nothing but zero gradients was ever seen and eps1 is 0, the update is 0.
UNFURL_DEVICE float inverse_root(float v) {
  return v > 0 ? static_cast<float>(1 / sqrt(static_cast<double>(v))) : 0.0f;
}

/// A block a tile, a warp every eighth row of it, a lane kColumns neighbouring columns.
template <bool kAligned>
__global__ void __launch_bounds__(kThreads) adafactor_sums_kernel(Work a) {
  UNFURL_SHARED(double, columns, [kWarps][kTileWidth]);
  UNFURL_SHARED(DoubleScratch, scratch, [1]);
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const Index tile_row = blockIdx.x / a.across, tile_col = blockIdx.x - tile_row * a.across;
  const Index first = tile_row * kHeight, last = first + kHeight < a.rows ? first + kHeight : a.rows;
  const Index col = tile_col * kTileWidth + lane * kColumns;
  const int count = static_cast<int>(col >= a.cols ? 0 : a.cols - col < kColumns ? a.cols - col : kColumns);
  double sums[kColumns] = {}, weights = 0;
  for (Index r = first + warp; r < last; r += kWarps) {
    float g[kColumns];
    load_elements<kAligned, kColumns>(a.gradient + r * a.cols + col, count).to_floats(g);
    double sum = 0;
#pragma unroll
    for (int i = 0; i < kColumns; ++i) {
      sums[i] += square(g[i]);
      sum += square(g[i]);
    }
    if (a.rows > 1) {
      sum = warp_sum(sum);
      if (lane == 0) a.row_sums[r * a.across + tile_col] = sum;
    }
    if (a.config.parameter_scale) {
      float w[kColumns];
      load_elements<kAligned, kColumns>(a.weight + r * a.cols + col, count).to_floats(w);
#pragma unroll
      for (int i = 0; i < kColumns; ++i) weights += square(w[i]);
    }
  }
#pragma unroll
  for (int i = 0; i < kColumns; ++i) columns[warp][lane * kColumns + i] = sums[i];
  weights = block_sum_once(weights, scratch[0]);  // and a barrier for the columns
  if (threadIdx.x == 0) a.weight_sums[blockIdx.x] = weights;
  const int mine = static_cast<int>(threadIdx.x);
  if (mine >= kTileWidth || tile_col * kTileWidth + mine >= a.cols) return;
  double sum = 0;
  for (int w = 0; w < kWarps; ++w) sum += columns[w][mine];
  a.column_sums[tile_row * a.cols + tile_col * kTileWidth + mine] = sum;
}

/// Blocks of columns, then, for a matrix, blocks of rows.
__global__ void __launch_bounds__(kThreads) adafactor_means_kernel(Work a) {
  UNFURL_SHARED(DoubleScratch, scratch, [1]);
  const Step step = a.step();
  const bool is_column = blockIdx.x < a.column_blocks();
  const Index block = is_column ? blockIdx.x : blockIdx.x - a.column_blocks();
  const Index i = block * kThreads + static_cast<int>(threadIdx.x), length = is_column ? a.cols : a.rows;
  float state = 0;
  if (i < length) {
    double sum = 0;
    if (is_column) {
      for (Index t = 0; t < a.down; ++t) sum += a.column_sums[t * a.cols + i];
    } else {
      for (Index t = 0; t < a.across; ++t) sum += a.row_sums[i * a.across + t];
    }
    float* at = (is_column ? a.column : a.row) + i;
    state = *at;
    if (!step.skip) {
      const double beta2 = 1 - pow(step.steps, -a.config.decay);
      const double terms = static_cast<double>(is_column ? a.rows : a.cols);
      const double mean = sum * (step.gradient_scale * step.gradient_scale) / terms + a.config.eps1;
      state = static_cast<float>(beta2 * static_cast<double>(state) + (1 - beta2) * mean);
      *at = state;
    }
    (is_column ? a.column_factor : a.row_factor)[i] = inverse_root(state);
  }
  const double total = block_sum_once(static_cast<double>(state), scratch[0]);
  if (!is_column && threadIdx.x == 0) a.row_totals[block] = total;
}

/// The tiles of adafactor_sums_kernel. The update without the mean of R, which enters with the rate.
template <bool kAligned>
__global__ void __launch_bounds__(kThreads) adafactor_length_kernel(Work a) {
  UNFURL_SHARED(DoubleScratch, scratch, [1]);
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const Index tile_row = blockIdx.x / a.across, tile_col = blockIdx.x - tile_row * a.across;
  const Index first = tile_row * kHeight, last = first + kHeight < a.rows ? first + kHeight : a.rows;
  const Index col = tile_col * kTileWidth + lane * kColumns;
  const int count = static_cast<int>(col >= a.cols ? 0 : a.cols - col < kColumns ? a.cols - col : kColumns);
  float factor[kColumns];
  load_elements<kAligned, kColumns>(a.column_factor + col, count).to_floats(factor);
  double total = 0;
  for (Index r = first + warp; r < last; r += kWarps) {
    float g[kColumns];
    load_elements<kAligned, kColumns>(a.gradient + r * a.cols + col, count).to_floats(g);
    double sum = 0;
#pragma unroll
    for (int i = 0; i < kColumns; ++i) {
      const double u = static_cast<double>(g[i]) * static_cast<double>(factor[i]);
      sum += u * u;
    }
    total += a.rows > 1 ? sum * square(a.row_factor[r]) : sum;
  }
  total = block_sum_once(total, scratch[0]);
  if (threadIdx.x == 0) a.update_sums[blockIdx.x] = total;
}

/// One block.
__global__ void __launch_bounds__(kThreads) adafactor_scale_kernel(Work a) {
  UNFURL_SHARED(DoubleScratch, scratch, [3]);
  double rows = 0, updates = 0, weights = 0;
  for (Index i = static_cast<int>(threadIdx.x); i < a.row_blocks(); i += kThreads) rows += a.row_totals[i];
  for (Index i = static_cast<int>(threadIdx.x); i < a.across * a.down; i += kThreads) {
    updates += a.update_sums[i];
    weights += a.weight_sums[i];
  }
  rows = block_sum_once(rows, scratch[0]);
  updates = block_sum_once(updates, scratch[1]);
  weights = block_sum_once(weights, scratch[2]);
  if (threadIdx.x != 0) return;
  const Step step = a.step();
  const double mean_row = a.rows > 1 ? rows / static_cast<double>(a.rows) : 1.0;
  const double elements = static_cast<double>(a.rows) * static_cast<double>(a.cols);
  const double rms = sqrt(updates * mean_row * (step.gradient_scale * step.gradient_scale) / elements);
  const double scale = a.config.parameter_scale ? fmax(a.config.eps2, sqrt(weights / elements)) : 1.0;
  a.scalars->rate = static_cast<float>(step.learning_rate * scale * step.gradient_scale * sqrt(mean_row) /
                                       fmax(1.0, rms / a.config.clip_threshold));
  a.scalars->decay = static_cast<float>(step.learning_rate * a.config.weight_decay);
}

struct Apply {
  static constexpr int kWidth = kColumns;
  Work a;

  struct Loaded {
    Elements<float> weight, gradient;
  };
  template <bool kAligned>
  UNFURL_DEVICE Loaded load(const Piece& at) const {
    const Index i = at.row * a.cols + at.col;
    return {load_elements<kAligned, kWidth>(a.weight + i, at.count),
            load_elements<kAligned, kWidth>(a.gradient + i, at.count)};
  }
  template <bool kAligned>
  UNFURL_DEVICE void store(const Piece& at, const Loaded& in) const {
    const Index i = at.row * a.cols + at.col;
    float w[kWidth], g[kWidth], factor[kWidth];
    in.gradient.to_floats(g);
    if (a.device == nullptr || a.device->skip == 0) {
      const Scalars scalars = *a.scalars;
      const float by_row = a.rows > 1 ? a.row_factor[at.row] : 1.0f;
      in.weight.to_floats(w);
      load_elements<kAligned, kWidth>(a.column_factor + at.col, at.count).to_floats(factor);
#pragma unroll
      for (int k = 0; k < kWidth; ++k) {
        w[k] = (w[k] - scalars.decay * w[k]) - scalars.rate * (g[k] * factor[k] * by_row);
      }
      store_elements<kAligned>(a.weight + i, w, at.count);
      if (a.copy != nullptr) store_copy<kAligned>(a.copy + i, w, at.count);
    }
    if (!a.clear) return;
#pragma unroll
    for (int k = 0; k < kWidth; ++k) g[k] = 0;
    store_elements<kAligned>(a.gradient + i, g, at.count);
  }
};

void run(const DeviceQueue& queue, Work a) {
  if (a.rows == 0 || a.cols == 0) return;
  a.across = (a.cols + kTileWidth - 1) / kTileWidth;
  a.down = (a.rows + kHeight - 1) / kHeight;
  const Index tiles = a.across * a.down, row_blocks = a.rows > 1 ? (a.rows + kThreads - 1) / kThreads : 0;
  const Index padded_cols = (a.cols + 3) / 4 * 4;
  const Index doubles = a.down * a.cols + a.rows * a.across + 2 * tiles + row_blocks + 1;
  const Index floats = padded_cols + a.rows;
  const Index padded = (doubles + 1) / 2 * 2;  // so that the factors can be read as vectors
  a.column_sums = static_cast<double*>(queue.scratch(static_cast<std::size_t>(padded) * sizeof(double) +
                                                     static_cast<std::size_t>(floats) * sizeof(float)));
  a.row_sums = a.column_sums + a.down * a.cols;
  a.update_sums = a.row_sums + a.rows * a.across;
  a.weight_sums = a.update_sums + tiles;
  a.row_totals = a.weight_sums + tiles;
  a.scalars = reinterpret_cast<Scalars*>(a.row_totals + row_blocks);
  static_assert(sizeof(Scalars) == sizeof(double));
  a.column_factor = reinterpret_cast<float*>(a.column_sums + padded);
  a.row_factor = a.column_factor + padded_cols;

  const auto grid = [](Index blocks) { return dim3(static_cast<unsigned>(blocks)); };
  const bool aligned = a.cols % kColumns == 0 && vector_aligned(a.weight, 0) && vector_aligned(a.gradient, 0) &&
                       vector_aligned(a.copy, 0);
  launch(queue, aligned ? adafactor_sums_kernel<true> : adafactor_sums_kernel<false>, grid(tiles), dim3(kThreads), 0,
         a);
  launch(queue, adafactor_means_kernel, grid((a.cols + kThreads - 1) / kThreads + row_blocks), dim3(kThreads), 0, a);
  launch(queue, aligned ? adafactor_length_kernel<true> : adafactor_length_kernel<false>, grid(tiles), dim3(kThreads),
         0, a);
  launch(queue, adafactor_scale_kernel, dim3(1), dim3(kThreads), 0, a);
  const Index across = (a.cols + kColumns - 1) / kColumns, pieces = a.rows * across;
  launch(queue, aligned ? map_kernel<true, kColumns, Apply> : map_kernel<false, kColumns, Apply>,
         grid((pieces + kMapThreads * kMapPieces - 1) / (kMapThreads * kMapPieces)), dim3(kMapThreads), 0, Apply{a},
         pieces, across, a.cols);
}

}  // namespace

template <class Queue, class T>
void adafactor(const Queue& queue, T* weight, T* row, T* column, T* gradient, const Adafactor& config, bool clear,
               Index rows, Index cols) {
  Work a{};
  a.weight = weight, a.row = row, a.column = column, a.gradient = gradient;
  a.fixed = {config.learning_rate, config.gradient_scale, static_cast<double>(config.step), false};
  a.config = config, a.clear = clear, a.rows = rows, a.cols = cols;
  run(queue, a);
}

template <class Queue>
void adafactor_step(const Queue& queue, float* weight, float* row, float* column, float* gradient, bf16* copy,
                    const OptimizerStep* step, const Adafactor& config, Index rows, Index cols) {
  Work a{};
  a.weight = weight, a.row = row, a.column = column, a.gradient = gradient, a.copy = copy, a.device = step;
  a.config = config, a.clear = true, a.rows = rows, a.cols = cols;
  run(queue, a);
}

template void adafactor(const DeviceQueue&, float*, float*, float*, float*, const Adafactor&, bool, Index, Index);
template void adafactor_step(const DeviceQueue&, float*, float*, float*, float*, bf16*, const OptimizerStep*,
                             const Adafactor&, Index, Index);

}  // namespace unfurl::kernels
