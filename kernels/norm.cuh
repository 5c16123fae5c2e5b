// RMSNorm and LayerNorm on a GPU, which are one algorithm: RMSNorm leaves the mean out (kCentered = false) and has no
// bias. rms_norm.h and layer_norm.h hold the contracts; with xhat = (s - mean) rstd and g = dy gain the gradients are
//
//   dx = ds + rstd (g - [mean_c(g)] - xhat mean_c(g xhat)),   dgain = sum_r(dy xhat),   dbias = sum_r(dy)
//
// All of it is bound by memory, so every element is read and written once:
//
//  - forward: a row stays in the registers of a warp (or of eight, where it is wide), each lane with up to eight
//    vectors of 16 bytes in flight; there is no barrier where one warp suffices. The sum with the residual is rounded
//    to T before anything is made of it, since backward will see it so;
//  - backward: a thread keeps its column vectors for all rows of its block, several rows in flight at a time, and sums
//    the parameter gradients in registers. Each block writes one partial sum; a second kernel adds the partials in
//    order. The number of blocks depends on the shape alone, so the bits do not depend on the device;
//  - rows that vectors cannot read (odd strides or widths), or that are too wide, take the general kernels below.
#pragma once
#include "kernels/device/reduce.h"
#include "kernels/device/vector.h"

namespace unfurl::kernels {
namespace {

template <class T>
struct NormForward {
  Matrix<T> y, s;
  float* mean;  // null for RMSNorm
  float* rstd;
  Matrix<const T> x, residual;
  const T* gain;
  const T* bias;
  Index rows;
  int cols;
  float eps;
};

template <class T>
struct NormBackward {
  Matrix<T> dx;
  Matrix<const T> dy, ds, s;
  const T* gain;
  const float* mean;
  const float* rstd;
  float* partials;  // [blocks, kCentered ? 2 : 1, cols]
  Index rows;
  int cols;
};

constexpr int kForwardThreads = 256, kBackwardThreads = 512;
constexpr int kBackwardBlocks = 528;  // at most: four for each multiprocessor of an H100 or H200
constexpr int kGeneralThreads = 256;

/// Over the kWarps warps that share a row.
template <int kWarps>
UNFURL_DEVICE float row_sum(float value, BlockScratch& scratch, CallSite site = {}) {
  if constexpr (kWarps == 1) return warp_sum(value, site);
  return block_sum(value, scratch, site);
}

/// A row is one warp's, or, with kWarps == 8, a block's. cols is a multiple of the vector and at most
/// 32 kWarps kVectors vectors.
template <class T, bool kCentered, int kWarps, int kVectors>
__global__ void __launch_bounds__(kForwardThreads) norm_forward_kernel(NormForward<T> a) {
  constexpr int kWidth = kVectorSize<T>, kThreads = 32 * kWarps, kRows = kForwardThreads / kThreads;
  UNFURL_SHARED(BlockScratch, scratch, [1]);
  const int thread = static_cast<int>(threadIdx.x) % kThreads;
  const Index row = Index{blockIdx.x} * kRows + static_cast<int>(threadIdx.x) / kThreads;
  if (row >= a.rows) return;  // whole warps, and no barrier follows where a block has several rows
  Vector<T> in[kVectors];
#pragma unroll
  for (int v = 0; v < kVectors; ++v) {
    const int c = (v * kThreads + thread) * kWidth;
    in[v].bits = make_uint4(0, 0, 0, 0);
    if (c < a.cols) in[v] = load_vector(a.x.row(row) + c);
  }
  if (a.residual.data != nullptr) {
    Vector<T> more[kVectors];
#pragma unroll
    for (int v = 0; v < kVectors; ++v) {
      const int c = (v * kThreads + thread) * kWidth;
      more[v].bits = make_uint4(0, 0, 0, 0);
      if (c < a.cols) more[v] = load_vector(a.residual.row(row) + c);
    }
#pragma unroll
    for (int v = 0; v < kVectors; ++v) {
      const int c = (v * kThreads + thread) * kWidth;
      float s[kWidth], residual[kWidth];
      in[v].to_floats(s);
      more[v].to_floats(residual);
#pragma unroll
      for (int i = 0; i < kWidth; ++i) s[i] += residual[i];
      in[v] = Vector<T>::from_floats(s);
      if (c < a.cols) store_vector(a.s.row(row) + c, in[v]);
    }
  }
  const float scale = 1.0f / static_cast<float>(a.cols);
  float mean = 0;
  if constexpr (kCentered) {
    float sum = 0;
#pragma unroll
    for (int v = 0; v < kVectors; ++v) {
      float s[kWidth];
      in[v].to_floats(s);
#pragma unroll
      for (int i = 0; i < kWidth; ++i) sum += s[i];
    }
    mean = row_sum<kWarps>(sum, scratch[0]) * scale;
    if (thread == 0) a.mean[row] = mean;
  }
  float squares = 0;
#pragma unroll
  for (int v = 0; v < kVectors; ++v) {
    const int c = (v * kThreads + thread) * kWidth;
    float s[kWidth];
    in[v].to_floats(s);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) squares += c < a.cols ? (s[i] - mean) * (s[i] - mean) : 0.0f;
  }
  const float rstd = rsqrtf(row_sum<kWarps>(squares, scratch[0]) * scale + a.eps);
  if (thread == 0) a.rstd[row] = rstd;
#pragma unroll
  for (int v = 0; v < kVectors; ++v) {
    const int c = (v * kThreads + thread) * kWidth;
    if (c >= a.cols) continue;
    float s[kWidth], gain[kWidth];
    in[v].to_floats(s);
    load_vector(a.gain + c).to_floats(gain);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) s[i] = (s[i] - mean) * rstd * gain[i];
    if (kCentered && a.bias != nullptr) {
      float bias[kWidth];
      load_vector(a.bias + c).to_floats(bias);
#pragma unroll
      for (int i = 0; i < kWidth; ++i) s[i] += bias[i];
    }
    store_vector(a.y.row(row) + c, Vector<T>::from_floats(s));
  }
}

/// Any width and alignment; a block a row, which is read again from the cache.
template <class T, bool kCentered>
__global__ void __launch_bounds__(kGeneralThreads) norm_forward_general_kernel(NormForward<T> a) {
  UNFURL_SHARED(BlockScratch, scratch, [1]);
  const Index row = blockIdx.x;
  const int first = static_cast<int>(threadIdx.x);
  const T* s = a.x.row(row);
  if (a.residual.data != nullptr) {  // a thread reads later what it wrote itself
    const T* residual = a.residual.row(row);
    T* total = a.s.row(row);
    for (int c = first; c < a.cols; c += kGeneralThreads) total[c] = as<T>(as_float(s[c]) + as_float(residual[c]));
    s = total;
  }
  const float scale = 1.0f / static_cast<float>(a.cols);
  float mean = 0;
  if constexpr (kCentered) {
    float sum = 0;
    for (int c = first; c < a.cols; c += kGeneralThreads) sum += as_float(s[c]);
    mean = block_sum(sum, scratch[0]) * scale;
    if (first == 0) a.mean[row] = mean;
  }
  float squares = 0;
  for (int c = first; c < a.cols; c += kGeneralThreads) {
    const float v = as_float(s[c]) - mean;
    squares += v * v;
  }
  const float rstd = rsqrtf(block_sum(squares, scratch[0]) * scale + a.eps);
  if (first == 0) a.rstd[row] = rstd;
  T* y = a.y.row(row);
  for (int c = first; c < a.cols; c += kGeneralThreads) {
    const float xhat = (as_float(s[c]) - mean) * rstd;
    y[c] = as<T>(xhat * as_float(a.gain[c]) + (kCentered && a.bias != nullptr ? as_float(a.bias[c]) : 0.0f));
  }
}

/// The sums over a row that its gradient needs, of kRows rows, over the block. Two scratches in turn save one barrier
/// of two.
template <int kRows>
struct RowSums {
  float g[32][kRows], gx[32][kRows];
};

template <bool kCentered, int kRows>
UNFURL_DEVICE void sum_rows(float (&g)[kRows], float (&gx)[kRows], RowSums<kRows>& scratch) {
  const int warps = static_cast<int>(blockDim.x) / 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    gx[r] = warp_sum(gx[r]);
    if constexpr (kCentered) g[r] = warp_sum(g[r]);
  }
  if (lane == 0) {
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      scratch.gx[warp][r] = gx[r];
      if constexpr (kCentered) scratch.g[warp][r] = g[r];
    }
  }
  __syncthreads();
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    gx[r] = warp_sum(lane < warps ? scratch.gx[lane][r] : 0.0f);
    if constexpr (kCentered) g[r] = warp_sum(lane < warps ? scratch.g[lane][r] : 0.0f);
  }
}

/// Block b takes the groups of kRows rows b, b + gridDim.x, ...; a thread the vectors threadIdx.x + v
/// blockDim.x of each. cols is a multiple of the vector.
template <class T, bool kCentered, int kVectors, int kRows>
__global__ void __launch_bounds__(kBackwardThreads) norm_backward_kernel(NormBackward<T> a) {
  constexpr int kWidth = kVectorSize<T>;
  UNFURL_SHARED(RowSums<kRows>, scratch, [2]);
  const int threads = static_cast<int>(blockDim.x), thread = static_cast<int>(threadIdx.x);
  const float scale = 1.0f / static_cast<float>(a.cols);
  float dgain[kVectors][kWidth] = {}, dbias[kVectors][kWidth] = {};
  int turn = 0;
  for (Index first = Index{blockIdx.x} * kRows; first < a.rows; first += Index{gridDim.x} * kRows) {
    Vector<T> dy[kRows][kVectors], s[kRows][kVectors], ds[kRows][kVectors];
    float mean[kRows] = {}, rstd[kRows] = {};
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const bool row = first + r < a.rows;
      if (row) {
        rstd[r] = a.rstd[first + r];
        if constexpr (kCentered) mean[r] = a.mean[first + r];
      }
#pragma unroll
      for (int v = 0; v < kVectors; ++v) {
        const int c = (v * threads + thread) * kWidth;
        dy[r][v].bits = s[r][v].bits = ds[r][v].bits = make_uint4(0, 0, 0, 0);
        if (row && c < a.cols) {
          dy[r][v] = load_vector(a.dy.row(first + r) + c);
          s[r][v] = load_vector(a.s.row(first + r) + c);
          if (a.ds.data != nullptr) ds[r][v] = load_vector(a.ds.row(first + r) + c);
        }
      }
    }
    float sum_g[kRows] = {}, sum_gx[kRows] = {};
#pragma unroll
    for (int v = 0; v < kVectors; ++v) {
      const int c = (v * threads + thread) * kWidth;
      if (c >= a.cols) continue;
      float gain[kWidth];
      load_vector(a.gain + c).to_floats(gain);
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        float cotangent[kWidth], x[kWidth];
        dy[r][v].to_floats(cotangent);
        s[r][v].to_floats(x);
#pragma unroll
        for (int i = 0; i < kWidth; ++i) {
          const float xhat = (x[i] - mean[r]) * rstd[r], g = cotangent[i] * gain[i];
          sum_gx[r] += g * xhat;
          dgain[v][i] += cotangent[i] * xhat;
          if constexpr (kCentered) {
            sum_g[r] += g;
            dbias[v][i] += cotangent[i];
          }
        }
      }
    }
    sum_rows<kCentered>(sum_g, sum_gx, scratch[turn]);
    turn ^= 1;
#pragma unroll
    for (int v = 0; v < kVectors; ++v) {
      const int c = (v * threads + thread) * kWidth;
      if (c >= a.cols) continue;
      float gain[kWidth];
      load_vector(a.gain + c).to_floats(gain);
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        if (first + r >= a.rows) continue;
        float cotangent[kWidth], x[kWidth], out[kWidth];
        dy[r][v].to_floats(cotangent);
        s[r][v].to_floats(x);
        ds[r][v].to_floats(out);
#pragma unroll
        for (int i = 0; i < kWidth; ++i) {
          const float xhat = (x[i] - mean[r]) * rstd[r];
          out[i] += rstd[r] * (cotangent[i] * gain[i] - sum_g[r] * scale - xhat * (sum_gx[r] * scale));
        }
        store_vector(a.dx.row(first + r) + c, Vector<T>::from_floats(out));
      }
    }
  }
  float* partial = a.partials + Index{blockIdx.x} * (kCentered ? 2 : 1) * a.cols;
#pragma unroll
  for (int v = 0; v < kVectors; ++v) {
    const int c = (v * threads + thread) * kWidth;
    if (c >= a.cols) continue;
#pragma unroll
    for (int i = 0; i < kWidth; i += 4) {
      store_vector(partial + c + i,
                   Vector<float>::from_floats({dgain[v][i], dgain[v][i + 1], dgain[v][i + 2], dgain[v][i + 3]}));
      if constexpr (kCentered) {
        store_vector(partial + a.cols + c + i,
                     Vector<float>::from_floats({dbias[v][i], dbias[v][i + 1], dbias[v][i + 2], dbias[v][i + 3]}));
      }
    }
  }
}

/// Any width and alignment: a block takes the rows blockIdx.x, blockIdx.x + gridDim.x, ... The partial sums live in
/// global memory.
template <class T, bool kCentered>
__global__ void __launch_bounds__(kGeneralThreads) norm_backward_general_kernel(NormBackward<T> a) {
  UNFURL_SHARED(BlockScratch, scratch, [2]);
  const int first = static_cast<int>(threadIdx.x);
  const float scale = 1.0f / static_cast<float>(a.cols);
  float* dgain = a.partials + Index{blockIdx.x} * (kCentered ? 2 : 1) * a.cols;
  float* dbias = dgain + a.cols;
  for (int c = first; c < a.cols; c += kGeneralThreads) {
    dgain[c] = 0;
    if constexpr (kCentered) dbias[c] = 0;
  }
  for (Index row = blockIdx.x; row < a.rows; row += gridDim.x) {
    const T* dy = a.dy.row(row);
    const T* s = a.s.row(row);
    const T* ds = a.ds.data != nullptr ? a.ds.row(row) : nullptr;
    T* dx = a.dx.row(row);
    const float rstd = a.rstd[row], mean = kCentered ? a.mean[row] : 0.0f;
    float sum_g = 0, sum_gx = 0;
    for (int c = first; c < a.cols; c += kGeneralThreads) {
      const float cotangent = as_float(dy[c]), xhat = (as_float(s[c]) - mean) * rstd,
                  g = cotangent * as_float(a.gain[c]);
      sum_gx += g * xhat;
      dgain[c] += cotangent * xhat;
      if constexpr (kCentered) {
        sum_g += g;
        dbias[c] += cotangent;
      }
    }
    const float mean_gx = block_sum(sum_gx, scratch[0]) * scale;
    const float mean_g = kCentered ? block_sum(sum_g, scratch[1]) * scale : 0.0f;
    for (int c = first; c < a.cols; c += kGeneralThreads) {
      const float xhat = (as_float(s[c]) - mean) * rstd, g = as_float(dy[c]) * as_float(a.gain[c]);
      dx[c] = as<T>((ds != nullptr ? as_float(ds[c]) : 0.0f) + rstd * (g - mean_g - xhat * mean_gx));
    }
  }
}

constexpr int kSumColumns = 32, kSumSlices = 32;

/// gradient[c] += the partials [count, stride] of column c: 32 slices of them, then the slices, in order. blockIdx.y
/// chooses gain or bias.
__global__ void __launch_bounds__(kSumColumns* kSumSlices)
    sum_partials_kernel(float* dgain, float* dbias, const float* partials, int count, int stride, int cols) {
  UNFURL_SHARED(float, slices, [kSumSlices][kSumColumns + 1]);
  float* gradient = blockIdx.y == 0 ? dgain : dbias;
  const int column = static_cast<int>(threadIdx.x), slice = static_cast<int>(threadIdx.y);
  const int c = static_cast<int>(blockIdx.x) * kSumColumns + column;
  float sum = 0;
  if (c < cols) {
    const float* from = partials + Index{blockIdx.y} * cols + c;
#pragma unroll 4
    for (int p = slice; p < count; p += kSumSlices) sum += from[Index{p} * stride];
  }
  slices[slice][column] = sum;
  __syncthreads();
  if (slice == 0 && c < cols && gradient != nullptr) {
    for (int i = 1; i < kSumSlices; ++i) sum += slices[i][column];
    gradient[c] += sum;
  }
}

template <class T, bool kCentered, int kWarps, int kVectors>
bool launch_forward_if_fits(const DeviceQueue& queue, const NormForward<T>& a) {
  if (a.cols > 32 * kWarps * kVectors * kVectorSize<T>) return false;
  constexpr Index kRows = kForwardThreads / (32 * kWarps);
  launch(queue, norm_forward_kernel<T, kCentered, kWarps, kVectors>,
         dim3(static_cast<unsigned>((a.rows + kRows - 1) / kRows)), dim3(kForwardThreads), 0, a);
  return true;
}

template <class T, bool kCentered>
void norm_forward(const DeviceQueue& queue, const NormForward<T>& a) {
  if (a.rows == 0) return;
  const bool vectors = a.cols % kVectorSize<T> == 0 && vector_aligned(a.y.data, a.y.stride) &&
                       vector_aligned(a.x.data, a.x.stride) && vector_aligned(a.residual.data, a.residual.stride) &&
                       (a.residual.data == nullptr || vector_aligned(a.s.data, a.s.stride)) &&
                       vector_aligned(a.gain, 0) && vector_aligned(a.bias, 0);
  if (vectors &&
      (launch_forward_if_fits<T, kCentered, 1, 4>(queue, a) || launch_forward_if_fits<T, kCentered, 1, 8>(queue, a) ||
       launch_forward_if_fits<T, kCentered, 8, 4>(queue, a))) {
    return;
  }
  launch(queue, norm_forward_general_kernel<T, kCentered>, dim3(static_cast<unsigned>(a.rows)), dim3(kGeneralThreads),
         0, a);
}

/// At most kBackwardBlocks blocks, which write a partial sum each.
template <class T, bool kCentered>
int backward_blocks(const DeviceQueue& queue, NormBackward<T>& a, int rows_in_flight) {
  const Index groups = (a.rows + rows_in_flight - 1) / rows_in_flight;
  const int blocks = static_cast<int>(groups < kBackwardBlocks ? groups : kBackwardBlocks);
  const std::size_t floats = static_cast<std::size_t>(blocks) * (kCentered ? 2 : 1) * static_cast<std::size_t>(a.cols);
  a.partials = static_cast<float*>(queue.scratch(floats * sizeof(float)));
  return blocks;
}

/// The number of blocks, or 0 where the rows are too wide.
template <class T, bool kCentered, int kVectors, int kRows>
int launch_backward_if_fits(const DeviceQueue& queue, NormBackward<T>& a) {
  const int vectors = a.cols / kVectorSize<T>, threads = ((vectors + kVectors - 1) / kVectors + 31) / 32 * 32;
  if (threads > kBackwardThreads) return 0;
  const int blocks = backward_blocks<T, kCentered>(queue, a, kRows);
  launch(queue, norm_backward_kernel<T, kCentered, kVectors, kRows>, dim3(static_cast<unsigned>(blocks)),
         dim3(static_cast<unsigned>(threads)), 0, a);
  return blocks;
}

/// dgain and dbias may be null.
template <class T, bool kCentered>
void norm_backward(const DeviceQueue& queue, NormBackward<T> a, float* dgain, float* dbias) {
  if (a.rows == 0) return;
  const bool vectors = a.cols % kVectorSize<T> == 0 && vector_aligned(a.dx.data, a.dx.stride) &&
                       vector_aligned(a.dy.data, a.dy.stride) && vector_aligned(a.s.data, a.s.stride) &&
                       vector_aligned(a.ds.data, a.ds.stride) && vector_aligned(a.gain, 0);
  int blocks = 0;
  if (vectors) blocks = launch_backward_if_fits<T, kCentered, 1, 4>(queue, a);
  if (vectors && blocks == 0) blocks = launch_backward_if_fits<T, kCentered, 2, 2>(queue, a);
  if (blocks == 0) {
    blocks = backward_blocks<T, kCentered>(queue, a, 1);
    launch(queue, norm_backward_general_kernel<T, kCentered>, dim3(static_cast<unsigned>(blocks)),
           dim3(kGeneralThreads), 0, a);
  }
  if (dgain == nullptr && dbias == nullptr) return;
  launch(queue, sum_partials_kernel,
         dim3(static_cast<unsigned>((a.cols + kSumColumns - 1) / kSumColumns), kCentered ? 2 : 1),
         dim3(kSumColumns, kSumSlices), 0, dgain, dbias, a.partials, blocks, (kCentered ? 2 : 1) * a.cols, a.cols);
}

}  // namespace
}  // namespace unfurl::kernels
