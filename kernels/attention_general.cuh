// Attention without tensor cores: float, heads of any size, and matrices that vectors cannot read. A block of eight
// warps takes 32 rows and walks over tiles of 32 keys (or the reverse for dK and dV); a lane scores one key for the
// four rows of its warp. Outputs are made kColumns columns a block (blockIdx.y), so a head may be as wide as it likes.
#pragma once
#include "kernels/attention.cuh"

namespace unfurl::kernels {
namespace {

constexpr int kGeneralSide = 32, kGeneralThreads = 256, kRowsOfWarp = 4, kColumns = 128;

template <class T>
struct GeneralForward {
  Matrix<T> out;
  float* lse;  // may be null
  Matrix<const T> q, k, v;
  Sizes sizes;
};

template <class T>
struct GeneralBackward {
  Matrix<T> dq, dk, dv;
  Matrix<const T> dout, out;
  const float* lse;
  float* delta;  // as lse: the sum of dout * out
  Matrix<const T> q, k, v;
  Sizes sizes;
};

using Square = float[kGeneralSide][kGeneralSide + 1];

struct GeneralShared {
  Square left, right;                        // of the products at hand
  Square p, ds;                              // [row][key]
  float columns[2][kGeneralSide][kColumns];  // of the matrices that p and ds are multiplied by
  Span spans[kGeneralSide];
};
static_assert(sizeof(GeneralShared) <= 81 * 1024, "two blocks on a multiprocessor of sm_80");

/// sums[i] = left(4 warp + i) . right(lane), both rows of `dim` elements, null for zeros. Synchronises the block.
template <class T, class Left, class Right>
UNFURL_DEVICE void general_dots(float (&sums)[kRowsOfWarp], GeneralShared& shared, const Left& left, const Right& right,
                                int dim) {
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
#pragma unroll
  for (int i = 0; i < kRowsOfWarp; ++i) sums[i] = 0;
  for (int first = 0; first < dim; first += kGeneralSide) {
    __syncthreads();
#pragma unroll
    for (int i = 0; i < kRowsOfWarp; ++i) {
      const int row = warp * kRowsOfWarp + i;
      const T* a = left(row);
      const T* b = right(row);
      const bool inside = first + lane < dim;
      shared.left[row][lane] = inside && a != nullptr ? as_float(a[first + lane]) : 0.0f;
      shared.right[row][lane] = inside && b != nullptr ? as_float(b[first + lane]) : 0.0f;
    }
    __syncthreads();
#pragma unroll 8
    for (int d = 0; d < kGeneralSide; ++d) {
      const float b = shared.right[lane][d];
#pragma unroll
      for (int i = 0; i < kRowsOfWarp; ++i) sums[i] += shared.left[warp * kRowsOfWarp + i][d] * b;
    }
  }
}

/// Columns [first, first + kColumns) of 32 rows; zeros where a row is null or has ended.
template <class T, class Rows>
UNFURL_DEVICE void general_columns(float (&columns)[kGeneralSide][kColumns], const Rows& rows, int first, int dim) {
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
#pragma unroll
  for (int i = 0; i < kRowsOfWarp; ++i) {
    const int row = warp * kRowsOfWarp + i;
    const T* from = rows(row);
#pragma unroll
    for (int c = lane; c < kColumns; c += 32) {
      columns[row][c] = from != nullptr && first + c < dim ? as_float(from[first + c]) : 0.0f;
    }
  }
}

/// The block's part of the work: a head, a tile, and columns of the output.
struct GeneralTask {
  int kv_head, first, first_column;
  UNFURL_DEVICE explicit GeneralTask(const Sizes& sizes)
      : kv_head(static_cast<int>(blockIdx.x) % sizes.kv_heads),
        first(static_cast<int>(blockIdx.x) / sizes.kv_heads * kGeneralSide),
        first_column(static_cast<int>(blockIdx.y) * kColumns) {}
};

/// The spans of 32 rows, by warp 0; the block must synchronise before they are read.
UNFURL_DEVICE void general_spans(GeneralShared& shared, const Sizes& sizes, int first_row, int covered) {
  if (threadIdx.x >= 32) return;
  const int token = first_row / sizes.group;
  int document = 0;
  if (token < covered) document = find_document(sizes.documents, token);
  const int row = static_cast<int>(threadIdx.x);
  shared.spans[row] = find_span(sizes.documents, document, (first_row + row) / sizes.group, covered);
}

using GeneralSums = float[kRowsOfWarp][kColumns / 32];

/// sums[i][c] += weights(4 warp + i, j) columns[j][lane + 32 c] over j.
template <class Weights>
UNFURL_DEVICE void general_add(GeneralSums& sums, const Weights& weights,
                               const float (&columns)[kGeneralSide][kColumns]) {
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
#pragma unroll 4
  for (int j = 0; j < kGeneralSide; ++j) {
#pragma unroll
    for (int i = 0; i < kRowsOfWarp; ++i) {
      const float weight = weights(warp * kRowsOfWarp + i, j);
#pragma unroll
      for (int c = 0; c < kColumns / 32; ++c) sums[i][c] += weight * columns[j][lane + 32 * c];
    }
  }
}

template <class T>
UNFURL_DEVICE void general_store(T* to, const float (&values)[kColumns / 32], int first, int dim, float factor) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int c = 0; c < kColumns / 32; ++c) {
    const int column = first + lane + 32 * c;
    if (column < dim) to[column] = as<T>(values[c] * factor);
  }
}

template <class T>
__global__ void __launch_bounds__(kGeneralThreads) attention_forward_general_kernel(GeneralForward<T> a) {
  UNFURL_DYNAMIC_SHARED(GeneralShared, shared);
  const Sizes& sizes = a.sizes;
  const GeneralTask task(sizes);
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int covered = sizes.documents.covered(), dim = sizes.head_dim;
  general_spans(shared, sizes, task.first, covered);
  __syncthreads();
  const int end = shared.spans[kGeneralSide - 1].end;
  float greatest[kRowsOfWarp], sum[kRowsOfWarp] = {};
#pragma unroll
  for (float& g : greatest) g = -INFINITY;
  GeneralSums out = {};
  const auto query = [&](int r) -> const T* {
    const int row = task.first + r;
    return row < covered * sizes.group ? row_of(a.q, sizes, task.kv_head, row, dim) : nullptr;
  };
  for (int key = shared.spans[0].begin; key < end; key += kGeneralSide) {
    const auto row_in = [&](const Matrix<const T>& matrix, int r) -> const T* {
      return key + r < end ? matrix.row(key + r) + task.kv_head * dim : nullptr;
    };
    float s[kRowsOfWarp];
    general_dots<T>(
        s, shared, query, [&](int r) { return row_in(a.k, r); }, dim);
    general_columns<T>(
        shared.columns[0], [&](int r) { return row_in(a.v, r); }, task.first_column, dim);
#pragma unroll
    for (int i = 0; i < kRowsOfWarp; ++i) {
      const int row = warp * kRowsOfWarp + i;
      s[i] = shared.spans[row].has(key + lane) ? s[i] * sizes.scale : -INFINITY;
      const float most = fmaxf(greatest[i], warp_max(s[i])), base = most == -INFINITY ? 0.0f : most;
      const float p = expf(s[i] - base), shrink = expf(greatest[i] - base);
      greatest[i] = most;
      sum[i] = sum[i] * shrink + warp_sum(p);
#pragma unroll
      for (int c = 0; c < kColumns / 32; ++c) out[i][c] *= shrink;
      shared.p[row][lane] = p;
    }
    __syncthreads();
    general_add(
        out, [&](int row, int j) { return shared.p[row][j]; }, shared.columns[0]);
    __syncthreads();
  }
#pragma unroll
  for (int i = 0; i < kRowsOfWarp; ++i) {
    const int row = task.first + warp * kRowsOfWarp + i;
    if (row >= sizes.rows()) continue;
    general_store(row_of(a.out, sizes, task.kv_head, row, dim), out[i], task.first_column, dim,
                  sum[i] > 0.0f ? 1.0f / sum[i] : 0.0f);
    if (a.lse != nullptr && blockIdx.y == 0 && lane == 0) {
      a.lse[place_of(sizes, task.kv_head, row)] = sum[i] > 0.0f ? greatest[i] + logf(sum[i]) : 0.0f;
    }
  }
}

/// The probability and the gradient of the score of a row and a key, given their products.
struct GeneralGradient {
  float p, ds;
  UNFURL_DEVICE GeneralGradient(bool seen, float s, float dp, float lse, float delta, float scale)
      : p(seen ? expf(s * scale - lse) : 0.0f), ds(seen ? p * (dp - delta) * scale : 0.0f) {}
};

/// dQ of 32 rows, and their delta.
template <class T>
__global__ void __launch_bounds__(kGeneralThreads) attention_dq_general_kernel(GeneralBackward<T> a) {
  UNFURL_DYNAMIC_SHARED(GeneralShared, shared);
  const Sizes& sizes = a.sizes;
  const GeneralTask task(sizes);
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int covered = sizes.documents.covered(), dim = sizes.head_dim;
  general_spans(shared, sizes, task.first, covered);
  __syncthreads();
  const int end = shared.spans[kGeneralSide - 1].end;
  const auto row_in = [&](const Matrix<const T>& matrix, int r) -> const T* {
    const int row = task.first + r;
    return row < covered * sizes.group ? row_of(matrix, sizes, task.kv_head, row, dim) : nullptr;
  };
  float lse[kRowsOfWarp], delta[kRowsOfWarp];
#pragma unroll
  for (int i = 0; i < kRowsOfWarp; ++i) {
    const int row = task.first + warp * kRowsOfWarp + i;
    const T* dout = row_in(a.dout, row - task.first);
    const T* out = row_in(a.out, row - task.first);
    float sum = 0;
    for (int c = lane; dout != nullptr && c < dim; c += 32) sum += as_float(dout[c]) * as_float(out[c]);
    delta[i] = warp_sum(sum);
    lse[i] = dout != nullptr ? a.lse[place_of(sizes, task.kv_head, row)] : 0.0f;
    if (row < sizes.rows() && blockIdx.y == 0 && lane == 0) a.delta[place_of(sizes, task.kv_head, row)] = delta[i];
  }
  GeneralSums dq = {};
  for (int key = shared.spans[0].begin; key < end; key += kGeneralSide) {
    const auto key_in = [&](const Matrix<const T>& matrix, int r) -> const T* {
      return key + r < end ? matrix.row(key + r) + task.kv_head * dim : nullptr;
    };
    float s[kRowsOfWarp], dp[kRowsOfWarp];
    general_dots<T>(
        s, shared, [&](int r) { return row_in(a.q, r); }, [&](int r) { return key_in(a.k, r); }, dim);
    general_dots<T>(
        dp, shared, [&](int r) { return row_in(a.dout, r); }, [&](int r) { return key_in(a.v, r); }, dim);
    general_columns<T>(
        shared.columns[0], [&](int r) { return key_in(a.k, r); }, task.first_column, dim);
#pragma unroll
    for (int i = 0; i < kRowsOfWarp; ++i) {
      const int row = warp * kRowsOfWarp + i;
      const bool seen = shared.spans[row].has(key + lane);
      shared.ds[row][lane] = GeneralGradient(seen, s[i], dp[i], lse[i], delta[i], sizes.scale).ds;
    }
    __syncthreads();
    general_add(
        dq, [&](int row, int j) { return shared.ds[row][j]; }, shared.columns[0]);
    __syncthreads();
  }
#pragma unroll
  for (int i = 0; i < kRowsOfWarp; ++i) {
    const int row = task.first + warp * kRowsOfWarp + i;
    if (row < sizes.rows()) {
      general_store(row_of(a.dq, sizes, task.kv_head, row, dim), dq[i], task.first_column, dim, 1.0f);
    }
  }
}

/// dK and dV of 32 keys, over the rows that see them.
template <class T>
__global__ void __launch_bounds__(kGeneralThreads) attention_dkv_general_kernel(GeneralBackward<T> a) {
  UNFURL_DYNAMIC_SHARED(GeneralShared, shared);
  const Sizes& sizes = a.sizes;
  const GeneralTask task(sizes);
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int covered = sizes.documents.covered(), dim = sizes.head_dim;
  const auto key_in = [&](const Matrix<const T>& matrix, int r) -> const T* {
    return task.first + r < covered ? matrix.row(task.first + r) + task.kv_head * dim : nullptr;
  };
  GeneralSums dk = {}, dv = {};
  int begin = 0, end = 0;
  if (task.first < covered) {
    const int last = find_document(sizes.documents, min(task.first + kGeneralSide, covered) - 1);
    begin = find_seer(sizes.documents, find_document(sizes.documents, task.first), task.first) * sizes.group;
    end = sizes.documents.cu_seqlens[last + 1] * sizes.group;
  }
  for (int first = begin; first < end; first += kGeneralSide) {
    const auto row_in = [&](const Matrix<const T>& matrix, int r) -> const T* {
      return first + r < end ? row_of(matrix, sizes, task.kv_head, first + r, dim) : nullptr;
    };
    __syncthreads();
    general_spans(shared, sizes, first, covered);
    float s[kRowsOfWarp], dp[kRowsOfWarp];
    general_dots<T>(
        s, shared, [&](int r) { return row_in(a.q, r); }, [&](int r) { return key_in(a.k, r); }, dim);
    general_dots<T>(
        dp, shared, [&](int r) { return row_in(a.dout, r); }, [&](int r) { return key_in(a.v, r); }, dim);
    general_columns<T>(
        shared.columns[0], [&](int r) { return row_in(a.dout, r); }, task.first_column, dim);
    general_columns<T>(
        shared.columns[1], [&](int r) { return row_in(a.q, r); }, task.first_column, dim);
#pragma unroll
    for (int i = 0; i < kRowsOfWarp; ++i) {
      const int row = warp * kRowsOfWarp + i;
      const bool inside = first + row < end;
      const Index place = inside ? place_of(sizes, task.kv_head, first + row) : 0;
      const GeneralGradient gradient(inside && shared.spans[row].has(task.first + lane), s[i], dp[i], a.lse[place],
                                     a.delta[place], sizes.scale);
      shared.p[row][lane] = gradient.p;
      shared.ds[row][lane] = gradient.ds;
    }
    __syncthreads();
    general_add(
        dv, [&](int key, int j) { return shared.p[j][key]; }, shared.columns[0]);
    general_add(
        dk, [&](int key, int j) { return shared.ds[j][key]; }, shared.columns[1]);
  }
#pragma unroll
  for (int i = 0; i < kRowsOfWarp; ++i) {
    const int key = task.first + warp * kRowsOfWarp + i;
    if (key >= sizes.tokens) continue;
    general_store(a.dk.row(key) + task.kv_head * dim, dk[i], task.first_column, dim, 1.0f);
    general_store(a.dv.row(key) + task.kv_head * dim, dv[i], task.first_column, dim, 1.0f);
  }
}

/// Of tiles of `rows` rows.
inline dim3 general_grid(const Sizes& sizes, Index rows) {
  const Index tiles = (rows + kGeneralSide - 1) / kGeneralSide;
  return dim3(static_cast<unsigned>(tiles * sizes.kv_heads),
              static_cast<unsigned>((sizes.head_dim + kColumns - 1) / kColumns));
}

template <class T>
void general_forward(const DeviceQueue& queue, const GeneralForward<T>& a) {
  launch(queue, attention_forward_general_kernel<T>, general_grid(a.sizes, Index{a.sizes.tokens} * a.sizes.group),
         dim3(kGeneralThreads), sizeof(GeneralShared), a);
}

template <class T>
void general_backward(const DeviceQueue& queue, const GeneralBackward<T>& a) {
  launch(queue, attention_dq_general_kernel<T>, general_grid(a.sizes, Index{a.sizes.tokens} * a.sizes.group),
         dim3(kGeneralThreads), sizeof(GeneralShared), a);
  launch(queue, attention_dkv_general_kernel<T>, general_grid(a.sizes, a.sizes.tokens), dim3(kGeneralThreads),
         sizeof(GeneralShared), a);
}

}  // namespace
}  // namespace unfurl::kernels
