// Causal attention over packed documents as graphs of cuDNN's operations, which it recognises and computes by one fused
// kernel: multi-head, grouped and multi-query, bf16 with float sums.
//
// A tensor there is [documents, heads, longest, head_dim]; that of a packed matrix is ragged: document d starts
// offsets[d] elements behind its start, and has lengths[d] rows. Keys are seen where they are at or before the query
// and within the document. The numbers in memory, all of the device:
//   offsets   int64 [documents + 1] for each matrix: cu_seqlens[d] times its row stride (of stats: times the heads)
//   lengths   int32 [documents]
//   stats     float [tokens, heads]: log-sum-exp of the scaled scores, saved by forward
//   delta     float [tokens, heads]: backward's own sums
//   dk_heads, dv_heads  room of 4 bytes times [tokens, heads * head_dim], where kv_heads < heads: gradients before they
//                       are summed over the heads that share one key-value head
#pragma once
#include <map>
#include <memory>

#include "kernels/cudnn.h"
#include "kernels/types.h"

namespace unfurl::kernels::cudnn {

/// Names of the tensors with memory; k_offsets is k + kOffsets, and so on.
enum Uid : std::int64_t {
  kQ = 1,
  kK,
  kV,
  kOut,
  kStats,
  kDout,
  kDq,
  kDk,
  kDv,
  kOffsets = 20,
  kQueryLengths = 40,
  kKeyLengths,
  kDelta,
  kDkHeads,
  kDvHeads,
  kScale = 50,
  kHidden,  // the score of what is not seen: minus infinity
  kHiddenCausal,
  kOne,
};

struct AttentionSizes {
  Index documents = 0;
  Index longest = 0;  // rows of a document, at most
  Index heads = 0, kv_heads = 0, head_dim = 0;
  std::map<Uid, Index> strides = {};  // of the rows of q, k, v, out and, for backward, dout, dq, dk, dv, in elements

  auto operator<=>(const AttentionSizes&) const = default;
};

/// What a graph is planned for: a GPU that is here, through the library's handle on it, or one that is described by a
/// finalized device property descriptor.
struct Target {
  void* handle = nullptr;
  const Descriptor* properties = nullptr;
};

class AttentionGraph {
 public:
  /// Strides are multiples of 8 elements; head_dim is 64 or 128. Where kv_heads < heads, the strides of dk and dv are
  /// kv_heads * head_dim.
  AttentionGraph(bool backward, const AttentionSizes& sizes, Target target);

  /// The library's suggestions for a target, best first; none where it cannot compute the graph there. With
  /// `deterministic` without those that give different bits from run to run.
  std::vector<Descriptor> engines(Target target, bool deterministic) const;

 private:
  std::vector<std::unique_ptr<Descriptor>> parts_;
  std::unique_ptr<Descriptor> graph_;
};

/// A graph made ready to be run.
class AttentionPlan {
 public:
  /// Of the first engine that works; throws where none does.
  AttentionPlan(bool backward, const AttentionSizes& sizes, Target target);

  /// Bytes of memory that execute() needs beside the tensors.
  std::size_t workspace() const { return workspace_; }
  /// Queues it on the handle's stream. `memory` has the address of every tensor of the pass, on the device but for the
  /// four numbers from kScale on.
  void execute(void* handle, const std::map<std::int64_t, void*>& memory, void* workspace) const;

 private:
  std::unique_ptr<AttentionGraph> graph_;
  std::unique_ptr<Descriptor> plan_;
  std::size_t workspace_ = 0;
};

}  // namespace unfurl::kernels::cudnn
