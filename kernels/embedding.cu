// Backward cuts the sorted tokens into parts of equal length, whatever ids they hold. Of each part the runs that begin
// and end within are added to the table at once; the sum of what goes on from the part before, and of what goes on into
// the next, is put aside. A second kernel adds the pieces of each such run in order. So neither a token that is
// everywhere nor one that is rare holds up the rest, no two blocks write to one row, and the sums depend on the order
// alone.
#include "kernels/embedding.h"

#include "kernels/copy_rows.cuh"
#include "kernels/map.cuh"

namespace unfurl::kernels {
namespace {

constexpr int kPart = 32;      // tokens
constexpr int kInFlight = 4;   // rows
constexpr int kThreads = 128;  // of a block

template <class T>
struct EmbeddingBackward {
  float* dtable;
  Matrix<const T> dy;
  const std::int32_t* ids;
  const std::int32_t* order;
  Index tokens, cols;
  float* pieces;  // [parts, 2, cols]: of the run that comes in, of the run that goes out
};

template <bool kAligned, int kWidth>
UNFURL_DEVICE void add_elements(float* to, const float (&sum)[kWidth], int count) {
  float before[kWidth];
  load_elements<kAligned, kWidth>(to, count).to_floats(before);
#pragma unroll
  for (int i = 0; i < kWidth; ++i) before[i] += sum[i];
  store_elements<kAligned>(to, before, count);
}

template <class T, bool kAligned>
__global__ void __launch_bounds__(kThreads) embedding_parts_kernel(EmbeddingBackward<T> a) {
  constexpr int kWidth = kVectorSize<T>;
  const Index part = blockIdx.x, first = part * kPart;
  const Index col = (Index{blockIdx.y} * kThreads + static_cast<int>(threadIdx.x)) * kWidth;
  if (col >= a.cols) return;
  const int columns = static_cast<int>(a.cols - col < kWidth ? a.cols - col : kWidth);
  const int length = static_cast<int>(a.tokens - first < kPart ? a.tokens - first : kPart);
  // The id before the part, and the one after.
  std::int32_t id = first > 0 ? a.ids[a.order[first - 1]] : -1;
  const std::int32_t after = first + length < a.tokens ? a.ids[a.order[first + length]] : -1;
  bool incoming = true;  // the run at hand began before the part
  float sum[kWidth] = {};
  for (int begin = 0; begin < length; begin += kInFlight) {
    Elements<T> rows[kInFlight];
    std::int32_t row_ids[kInFlight];
#pragma unroll
    for (int r = 0; r < kInFlight; ++r) {
      if (begin + r >= length) continue;
      const std::int32_t token = a.order[first + begin + r];
      row_ids[r] = a.ids[token];
      rows[r] = load_elements<kAligned, kWidth>(a.dy.row(token) + col, columns);
    }
#pragma unroll
    for (int r = 0; r < kInFlight; ++r) {
      if (begin + r >= length) continue;
      if (row_ids[r] != id) {  // the run before this row has ended
        if (begin + r > 0) {
          if (incoming) {
            store_elements<kAligned>(a.pieces + 2 * part * a.cols + col, sum, columns);
          } else {
            add_elements<kAligned>(a.dtable + id * a.cols + col, sum, columns);
          }
        }
        incoming = false;
        id = row_ids[r];
#pragma unroll
        for (int i = 0; i < kWidth; ++i) sum[i] = 0;
      }
      float row[kWidth];
      rows[r].to_floats(row);
#pragma unroll
      for (int i = 0; i < kWidth; ++i) sum[i] += row[i];
    }
  }
  if (incoming) {
    store_elements<kAligned>(a.pieces + 2 * part * a.cols + col, sum, columns);
  } else if (id == after) {
    store_elements<kAligned>(a.pieces + (2 * part + 1) * a.cols + col, sum, columns);
  } else {
    add_elements<kAligned>(a.dtable + id * a.cols + col, sum, columns);
  }
}

/// The runs that go out of the part in which they began.
template <bool kAligned>
__global__ void __launch_bounds__(kThreads) embedding_runs_kernel(EmbeddingBackward<float> a) {
  constexpr int kWidth = kVectorSize<float>;
  const Index part = blockIdx.x, next = (part + 1) * kPart;
  const Index col = (Index{blockIdx.y} * kThreads + static_cast<int>(threadIdx.x)) * kWidth;
  if (next >= a.tokens || col >= a.cols) return;
  const std::int32_t id = a.ids[a.order[next - 1]];
  const bool began_before = part > 0 && a.ids[a.order[part * kPart - 1]] == id;
  if (a.ids[a.order[next]] != id || began_before) return;
  const int columns = static_cast<int>(a.cols - col < kWidth ? a.cols - col : kWidth);
  // The run's last token: by steps of a part, as far as it fills them.
  Index last = part + 1;
  while ((last + 1) * kPart < a.tokens && a.ids[a.order[(last + 1) * kPart]] == id) ++last;
  float sum[kWidth];
  load_elements<kAligned, kWidth>(a.pieces + (2 * part + 1) * a.cols + col, columns).to_floats(sum);
  for (Index p = part + 1; p <= last; p += kInFlight) {
    Elements<float> pieces[kInFlight];
#pragma unroll
    for (int i = 0; i < kInFlight; ++i) {
      if (p + i <= last) pieces[i] = load_elements<kAligned, kWidth>(a.pieces + 2 * (p + i) * a.cols + col, columns);
    }
#pragma unroll
    for (int i = 0; i < kInFlight; ++i) {
      if (p + i > last) continue;
      float piece[kWidth];
      pieces[i].to_floats(piece);
#pragma unroll
      for (int k = 0; k < kWidth; ++k) sum[k] += piece[k];
    }
  }
  add_elements<kAligned>(a.dtable + id * a.cols + col, sum, columns);
}

unsigned blocks_of(Index cols, int width) {
  return static_cast<unsigned>((cols + kThreads * width - 1) / (kThreads * width));
}

}  // namespace

template <class Queue, class T>
void embedding_forward(const Queue& queue, Matrix<T> y, const std::int32_t* ids, const T* table, Index tokens,
                       Index cols) {
  copy_rows<false>(queue, y, Matrix<const T>{table, cols}, ids, tokens, tokens, cols);
}

template <class Queue, class T>
void embedding_backward(const Queue& queue, Accumulator<T>* dtable, Matrix<const T> dy, const std::int32_t* ids,
                        const std::int32_t* order, Index tokens, Index cols) {
  if (tokens == 0 || cols == 0) return;
  const Index parts = (tokens + kPart - 1) / kPart;
  auto* pieces = static_cast<float*>(queue.scratch(static_cast<std::size_t>(parts * 2 * cols) * sizeof(float)));
  const bool aligned = vector_aligned(dtable, cols) && vector_aligned(dy.data, dy.stride);
  launch(queue, aligned ? embedding_parts_kernel<T, true> : embedding_parts_kernel<T, false>,
         dim3(static_cast<unsigned>(parts), blocks_of(cols, kVectorSize<T>)), dim3(kThreads), 0,
         EmbeddingBackward<T>{dtable, dy, ids, order, tokens, cols, pieces});
  launch(queue, aligned ? embedding_runs_kernel<true> : embedding_runs_kernel<false>,
         dim3(static_cast<unsigned>(parts - 1), blocks_of(cols, kVectorSize<float>)), dim3(kThreads), 0,
         EmbeddingBackward<float>{dtable, {}, ids, order, tokens, cols, pieces});
}

#define UNFURL_INSTANTIATE(T)                                                                                  \
  template void embedding_forward(const DeviceQueue&, Matrix<T>, const std::int32_t*, const T*, Index, Index); \
  template void embedding_backward(const DeviceQueue&, float*, Matrix<const T>, const std::int32_t*,           \
                                   const std::int32_t*, Index, Index);
UNFURL_INSTANTIATE(float)
UNFURL_INSTANTIATE(bf16)
#undef UNFURL_INSTANTIATE

}  // namespace unfurl::kernels
