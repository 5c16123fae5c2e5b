// Attention by cuDNN: its plans, made once for each shape, and the memory that they run on.
#include <cuda_runtime_api.h>

#include <cstddef>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <utility>
#include <vector>

#include "kernels/cudnn_attention.h"
#include "kernels/cudnn_attention_graph.h"
#include "kernels/elementwise.h"
#include "kernels/ragged.h"

namespace unfurl::kernels {
namespace {

using namespace cudnn;

/// The library's handle on a stream. It lives as long as the program.
void* handle_of(const CudaQueue& queue) {
  static std::mutex mutex;
  static std::map<std::pair<int, void*>, void*> handles;
  const std::lock_guard lock(mutex);
  void*& handle = handles[{queue.device(), queue.stream()}];
  if (handle == nullptr) {
    if (cudaSetDevice(queue.device()) != cudaSuccess) throw std::runtime_error("cuda: the device cannot be chosen");
    void* made = nullptr;
    check(Library::get().create(&made), "starting");
    check(Library::get().set_stream(made, queue.stream()), "choosing the stream");
    handle = made;
  }
  return handle;
}

const AttentionPlan& plan_of(void* handle, bool backward, const AttentionSizes& sizes) {
  static std::mutex mutex;
  static std::map<std::pair<void*, bool>, std::map<AttentionSizes, AttentionPlan>> plans;
  const std::lock_guard lock(mutex);
  auto& of_pass = plans[{handle, backward}];
  const auto at = of_pass.find(sizes);
  if (at != of_pass.end()) return at->second;
  return of_pass.emplace(sizes, AttentionPlan(backward, sizes, {handle, nullptr})).first->second;
}

/// One pass: its tensors, and the scratch memory that they and the plan need.
class Pass {
 public:
  Pass(const CudaQueue& queue, const std::int32_t* cu_seqlens, const AttentionShape& shape, Index longest)
      : queue_(queue), cu_seqlens_(cu_seqlens), shape_(shape) {
    sizes_ = {shape.documents, longest, shape.heads, shape.kv_heads, shape.head_dim, {}};
  }

  template <class T>
  void matrix(Uid uid, Matrix<T> x) {
    if (x.stride % 8 != 0 || reinterpret_cast<std::uintptr_t>(x.data) % 16 != 0) {
      throw std::runtime_error("cuDNN: attention's rows must start at multiples of 16 bytes");
    }
    address(uid, x.data);
    sizes_.strides[uid] = x.stride;
  }
  void address(Uid uid, const void* data) { memory_[uid] = const_cast<void*>(data); }
  /// `bytes` of scratch memory as tensor `uid`.
  void scratch(Uid uid, Index bytes) { scratch_.emplace_back(uid, bytes); }
  /// The same, for a matrix of rows without gaps.
  void scratch_matrix(Uid uid, Index cols) {
    scratch(uid, shape_.tokens * cols * static_cast<Index>(sizeof(bf16)));
    sizes_.strides[uid] = cols;
  }
  template <class T>
  T* at(Uid uid) const {
    return static_cast<T*>(memory_.at(uid));
  }

  void run(bool backward) {
    void* const handle = handle_of(queue_);
    const AttentionPlan& plan = plan_of(handle, backward, sizes_);
    RaggedStrides strides;
    std::vector<Uid> ragged;
    for (const auto& [uid, stride] : sizes_.strides) {
      ragged.push_back(uid);
      strides.values[strides.count++] = stride;
    }
    ragged.push_back(kStats);
    strides.values[strides.count++] = shape_.heads;
    const Index pitch = (shape_.documents + 2) / 2 * 2;  // each starts at a multiple of 16 bytes
    const Index offsets = strides.count * pitch * static_cast<Index>(sizeof(std::int64_t));
    const auto aligned = [](Index bytes) { return (bytes + 255) / 256 * 256; };
    Index total = aligned(offsets) + aligned(shape_.documents * 4) + static_cast<Index>(plan.workspace());
    for (const auto& [uid, bytes] : scratch_) total += aligned(bytes);

    auto* free = static_cast<std::byte*>(queue_.scratch(static_cast<std::size_t>(total)));
    const auto take = [&](Index bytes) { return std::exchange(free, free + aligned(bytes)); };
    auto* const starts = reinterpret_cast<std::int64_t*>(take(offsets));
    auto* const lengths = reinterpret_cast<std::int32_t*>(take(shape_.documents * 4));
    for (const auto& [uid, bytes] : scratch_) memory_[uid] = take(bytes);
    ragged_offsets(queue_, starts, pitch, lengths, cu_seqlens_, shape_.documents, strides);
    for (std::size_t i = 0; i < ragged.size(); ++i) {
      memory_[ragged[i] + kOffsets] = starts + static_cast<Index>(i) * pitch;
    }
    float scale = static_cast<float>(shape_.scale), one = 1, hidden = -std::numeric_limits<float>::infinity();
    memory_[kQueryLengths] = memory_[kKeyLengths] = lengths;
    memory_[kScale] = &scale;
    memory_[kHidden] = memory_[kHiddenCausal] = &hidden;
    if (backward) memory_[kOne] = &one;
    plan.execute(handle, memory_, free);
  }

  void clear(Matrix<bf16> x, Index cols) const {
    clear_padding(queue_, x, cu_seqlens_, shape_.documents, shape_.tokens, cols);
  }

 private:
  const CudaQueue& queue_;
  const std::int32_t* cu_seqlens_;
  const AttentionShape& shape_;
  AttentionSizes sizes_;
  std::map<std::int64_t, void*> memory_;
  std::vector<std::pair<Uid, Index>> scratch_;
};

}  // namespace

void cudnn_attention_forward(const CudaQueue& queue, Matrix<bf16> out, float* stats, Matrix<const bf16> q,
                             Matrix<const bf16> k, Matrix<const bf16> v, const std::int32_t* cu_seqlens,
                             const AttentionShape& shape, Index longest) {
  if (shape.tokens == 0) return;
  Pass pass(queue, cu_seqlens, shape, longest);
  if (shape.documents > 0) {
    pass.matrix(kQ, q);
    pass.matrix(kK, k);
    pass.matrix(kV, v);
    pass.matrix(kOut, out);
    if (stats != nullptr) {
      pass.address(kStats, stats);
    } else {
      pass.scratch(kStats, shape.tokens * shape.heads * static_cast<Index>(sizeof(float)));
    }
    pass.run(false);
  }
  pass.clear(out, shape.heads * shape.head_dim);
}

void cudnn_attention_backward(const CudaQueue& queue, Matrix<bf16> dq, Matrix<bf16> dk, Matrix<bf16> dv,
                              Matrix<const bf16> dout, Matrix<const bf16> out, const float* stats, Matrix<const bf16> q,
                              Matrix<const bf16> k, Matrix<const bf16> v, const std::int32_t* cu_seqlens,
                              const AttentionShape& shape, Index longest) {
  if (shape.tokens == 0) return;
  const Index width = shape.heads * shape.head_dim, kv_width = shape.kv_heads * shape.head_dim;
  Pass pass(queue, cu_seqlens, shape, longest);
  if (shape.documents > 0) {
    pass.matrix(kQ, q);
    pass.matrix(kK, k);
    pass.matrix(kV, v);
    pass.matrix(kOut, out);
    pass.matrix(kDout, dout);
    pass.matrix(kDq, dq);
    pass.address(kStats, stats);
    pass.scratch(kDelta, shape.tokens * shape.heads * static_cast<Index>(sizeof(float)));
    if (shape.kv_heads == shape.heads) {
      pass.matrix(kDk, dk);
      pass.matrix(kDv, dv);
      pass.run(true);
    } else {
      // The gradients of each query head have as wide rows as the sums, times the heads that share one: the sums are
      // made without gaps between their rows, and copied to where they are wanted.
      pass.scratch_matrix(kDk, kv_width);
      pass.scratch_matrix(kDv, kv_width);
      pass.scratch(kDkHeads, shape.tokens * width * 4);
      pass.scratch(kDvHeads, shape.tokens * width * 4);
      pass.run(true);
      convert<CudaQueue, bf16, bf16>(queue, dk, {pass.at<bf16>(kDk), kv_width}, shape.tokens, kv_width);
      convert<CudaQueue, bf16, bf16>(queue, dv, {pass.at<bf16>(kDv), kv_width}, shape.tokens, kv_width);
    }
  }
  pass.clear(dq, width);
  pass.clear(dk, kv_width);
  pass.clear(dv, kv_width);
}

}  // namespace unfurl::kernels
