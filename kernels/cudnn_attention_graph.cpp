#include "kernels/cudnn_attention_graph.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "kernels/cudnn_attention.h"

namespace unfurl::kernels::cudnn {
namespace {

using Dims = std::vector<std::int64_t>;

/// Makes the tensors and operations of one pass, in the order and with the types in which the library knows attention.
class Builder {
 public:
  Builder(const AttentionSizes& sizes, std::vector<std::unique_ptr<Descriptor>>& parts) : sizes_(sizes), parts_(parts) {
    const Index b = sizes.documents, h = sizes.heads, s = sizes.longest;
    scores_ = {b, h, s, s};
    scores_strides_ = {h * s * s, s * s, s, 1};
    query_lengths_ = &stored(kQueryLengths, DATA_INT32, {b, 1, 1, 1}, {1, 1, 1, 1});
    key_lengths_ = &stored(kKeyLengths, DATA_INT32, {b, 1, 1, 1}, {1, 1, 1, 1});
  }

  void forward() {
    const Descriptor &q = rows(kQ, sizes_.heads), &k = columns(kK), &v = rows(kV, sizes_.kv_heads);
    const Descriptor &stats = of_rows(kStats), &out = rows(kOut, sizes_.heads);
    const Descriptor& products = score(DATA_FLOAT);
    matmul(q, k, products, query_lengths_, key_lengths_, nullptr);
    const Descriptor& masked = causal(within(scaled(products)));
    const Descriptor &greatest = row_number(), &shifted = score(DATA_FLOAT), &exponentials = score(DATA_FLOAT),
                     &sum = row_number(), &log = row_number(), &weights = score(DATA_BFLOAT16);
    reduce(REDUCE_TENSOR_MAX, masked, greatest);
    pointwise(POINTWISE_SUB, DATA_FLOAT, shifted, masked, &greatest);
    pointwise(POINTWISE_EXP, DATA_FLOAT, exponentials, shifted);
    reduce(REDUCE_TENSOR_ADD, exponentials, sum);
    pointwise(POINTWISE_LOG, DATA_FLOAT, log, sum);
    pointwise(POINTWISE_ADD, DATA_FLOAT, stats, greatest, &log);
    pointwise(POINTWISE_DIV, DATA_FLOAT, weights, exponentials, &sum);
    matmul(weights, v, out, query_lengths_, nullptr, key_lengths_);
  }

  void backward() {
    const Index b = sizes_.documents, h = sizes_.heads, s = sizes_.longest, d = sizes_.head_dim;
    const Descriptor &q = rows(kQ, h), &k = columns(kK), &v = columns(kV), &out = rows(kOut, h), &dout = rows(kDout, h),
                     &stats = of_rows(kStats);
    // delta = sum over the head of dout * out
    const Descriptor& products = tensor(next_++, DATA_FLOAT, {b, h, s, d}, {h * s * d, s * d, h * d, 1}, true);
    const Descriptor& sums = row_number();
    pointwise(POINTWISE_MUL, DATA_FLOAT, products, dout, &out);
    reduce(REDUCE_TENSOR_ADD, products, sums);
    const Descriptor& delta = of_rows(kDelta, kStats);
    pointwise(POINTWISE_MUL, DATA_FLOAT, delta, sums, &number(kOne));
    // p = exp(scale * q k^T - stats), dv = p^T dout
    const Descriptor &qk = score(DATA_FLOAT), &shifted = score(DATA_FLOAT), &p = score(DATA_FLOAT);
    matmul(q, k, qk, query_lengths_, key_lengths_, nullptr);
    pointwise(POINTWISE_SUB, DATA_FLOAT, shifted, scaled(qk), &stats);
    pointwise(POINTWISE_EXP, DATA_FLOAT, p, causal(within(shifted)));
    gradient_of_keys(p, dout, kDv, kDvHeads);
    // ds = scale * p * (dout v^T - delta), dk = ds^T q, dq = ds k
    const Descriptor &dp = score(DATA_FLOAT), &centred = score(DATA_FLOAT), &weighted = score(DATA_FLOAT);
    matmul(dout, v, dp, query_lengths_, key_lengths_, nullptr);
    pointwise(POINTWISE_SUB, DATA_FLOAT, centred, dp, &delta);
    pointwise(POINTWISE_MUL, DATA_FLOAT, weighted, centred, &p);
    const Descriptor& ds = scaled(weighted);
    gradient_of_keys(ds, q, kDk, kDkHeads);
    const Index stride = sizes_.strides.at(kK);
    const Descriptor& turned =
        tensor(next_++, DATA_FLOAT, {b, sizes_.kv_heads, s, d}, {s * stride, d, stride, 1}, true, &offsets(kK));
    reshape(k, turned);
    matmul(ds, turned, rows(kDq, h), query_lengths_, nullptr, key_lengths_);
  }

  const std::vector<void*>& operations() const { return operations_; }

 private:
  Descriptor& keep(Kind kind) { return *parts_.emplace_back(std::make_unique<Descriptor>(kind)); }

  const Descriptor& tensor(std::int64_t uid, DataType type, const Dims& dims, const Dims& strides, bool is_virtual,
                           const Descriptor* ragged = nullptr, bool by_value = false) {
    Descriptor& out = keep(BACKEND_TENSOR_DESCRIPTOR);
    out.set(ATTR_TENSOR_UNIQUE_ID, uid)
        .set(ATTR_TENSOR_DATA_TYPE, TYPE_DATA_TYPE, type)
        .set(ATTR_TENSOR_DIMENSIONS, dims)
        .set(ATTR_TENSOR_STRIDES, strides)
        .set(ATTR_TENSOR_BYTE_ALIGNMENT, std::int64_t{16});
    if (is_virtual) out.set(ATTR_TENSOR_IS_VIRTUAL, true);
    if (by_value) out.set(ATTR_TENSOR_IS_BY_VALUE, true);
    if (ragged != nullptr) out.set(ATTR_TENSOR_RAGGED_OFFSET_DESC, *ragged);
    return out.finalize("tensor " + std::to_string(uid));
  }
  const Descriptor& stored(std::int64_t uid, DataType type, const Dims& dims, const Dims& strides,
                           const Descriptor* ragged = nullptr) {
    return tensor(uid, type, dims, strides, false, ragged);
  }
  const Descriptor& number(Uid uid) {
    return tensor(uid, DATA_FLOAT, {1, 1, 1, 1}, {1, 1, 1, 1}, false, nullptr, true);
  }
  const Descriptor& offsets(Uid of) {
    const Descriptor*& out = offsets_[of];
    if (out == nullptr) out = &stored(of + kOffsets, DATA_INT64, {sizes_.documents + 1, 1, 1, 1}, {1, 1, 1, 1});
    return *out;
  }
  /// A packed matrix, [documents, heads, longest, head_dim].
  const Descriptor& rows(Uid uid, Index heads) {
    const Index stride = sizes_.strides.at(uid), s = sizes_.longest, d = sizes_.head_dim;
    return stored(uid, DATA_BFLOAT16, {sizes_.documents, heads, s, d}, {s * stride, d, stride, 1}, &offsets(uid));
  }
  /// Keys or values transposed, [documents, kv_heads, head_dim, longest].
  const Descriptor& columns(Uid uid) {
    const Index stride = sizes_.strides.at(uid), s = sizes_.longest, d = sizes_.head_dim;
    return stored(uid, DATA_BFLOAT16, {sizes_.documents, sizes_.kv_heads, d, s}, {s * stride, d, 1, stride},
                  &offsets(uid));
  }
  /// A number for each row and head, [tokens, heads] in memory, which starts where `offsets_of` does.
  const Descriptor& of_rows(Uid uid, Uid offsets_of = kStats) {
    const Index h = sizes_.heads, s = sizes_.longest;
    return stored(uid, DATA_FLOAT, {sizes_.documents, h, s, 1}, {h * s, 1, h, 1}, &offsets(offsets_of));
  }
  const Descriptor& score(DataType type) { return tensor(next_++, type, scores_, scores_strides_, true); }
  const Descriptor& row_number() {
    const Index h = sizes_.heads, s = sizes_.longest;
    return tensor(next_++, DATA_FLOAT, {sizes_.documents, h, s, 1}, {h * s, s, 1, 1}, true);
  }

  void operation(Descriptor& made, const char* what) { operations_.push_back(made.finalize(what).get()); }

  void pointwise(Pointwise mode, DataType precision, const Descriptor& y, const Descriptor& x,
                 const Descriptor* b = nullptr, const Descriptor* t = nullptr, std::int64_t axis = -1) {
    Descriptor& how = keep(BACKEND_POINTWISE_DESCRIPTOR);
    how.set(ATTR_POINTWISE_MODE, TYPE_POINTWISE_MODE, mode).set(ATTR_POINTWISE_MATH_PREC, TYPE_DATA_TYPE, precision);
    if (axis >= 0) how.set(ATTR_POINTWISE_AXIS, axis);
    how.finalize("pointwise mode");
    Descriptor& out = keep(BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
    out.set(ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, how).set(ATTR_OPERATION_POINTWISE_XDESC, x);
    if (b != nullptr) out.set(ATTR_OPERATION_POINTWISE_BDESC, *b);
    if (t != nullptr) out.set(ATTR_OPERATION_POINTWISE_TDESC, *t);
    operation(out.set(ATTR_OPERATION_POINTWISE_YDESC, y), "pointwise operation");
  }

  /// c = a b over the documents' lengths of rows, columns and summands, where given.
  void matmul(const Descriptor& a, const Descriptor& b, const Descriptor& c, const Descriptor* m, const Descriptor* n,
              const Descriptor* k) {
    Descriptor& how = keep(BACKEND_MATMUL_DESCRIPTOR);
    how.set(ATTR_MATMUL_COMP_TYPE, TYPE_DATA_TYPE, DATA_FLOAT).finalize("matmul type");
    Descriptor& out = keep(BACKEND_OPERATION_MATMUL_DESCRIPTOR);
    out.set(ATTR_OPERATION_MATMUL_ADESC, a)
        .set(ATTR_OPERATION_MATMUL_BDESC, b)
        .set(ATTR_OPERATION_MATMUL_CDESC, c)
        .set(ATTR_OPERATION_MATMUL_DESC, how);
    if (m != nullptr) out.set(ATTR_OPERATION_MATMUL_GEMM_M_OVERRIDE_DESC, *m);
    if (n != nullptr) out.set(ATTR_OPERATION_MATMUL_GEMM_N_OVERRIDE_DESC, *n);
    if (k != nullptr) out.set(ATTR_OPERATION_MATMUL_GEMM_K_OVERRIDE_DESC, *k);
    operation(out, "matmul");
  }

  void reduce(Reduction mode, const Descriptor& x, const Descriptor& y) {
    Descriptor& how = keep(BACKEND_REDUCTION_DESCRIPTOR);
    how.set(ATTR_REDUCTION_OPERATOR, TYPE_REDUCTION_OPERATOR_TYPE, mode)
        .set(ATTR_REDUCTION_COMP_TYPE, TYPE_DATA_TYPE, DATA_FLOAT)
        .finalize("reduction mode");
    Descriptor& out = keep(BACKEND_OPERATION_REDUCTION_DESCRIPTOR);
    out.set(ATTR_OPERATION_REDUCTION_XDESC, x)
        .set(ATTR_OPERATION_REDUCTION_YDESC, y)
        .set(ATTR_OPERATION_REDUCTION_DESC, how);
    operation(out, "reduction");
  }

  void reshape(const Descriptor& x, const Descriptor& y) {
    Descriptor& out = keep(BACKEND_OPERATION_RESHAPE_DESCRIPTOR);
    operation(out.set(ATTR_OPERATION_RESHAPE_XDESC, x).set(ATTR_OPERATION_RESHAPE_YDESC, y), "reshape");
  }

  const Descriptor& scaled(const Descriptor& x) {
    if (scale_ == nullptr) scale_ = &number(kScale);
    const Descriptor& y = score(DATA_FLOAT);
    pointwise(POINTWISE_MUL, DATA_FLOAT, y, x, scale_);
    return y;
  }

  /// x where the query and the key are within the document, elsewhere minus infinity.
  const Descriptor& within(const Descriptor& x) {
    const Descriptor &row = score(DATA_INT32), &column = score(DATA_INT32), &row_in = score(DATA_BOOLEAN),
                     &column_in = score(DATA_BOOLEAN), &in = score(DATA_BOOLEAN), &y = score(DATA_FLOAT);
    pointwise(POINTWISE_GEN_INDEX, DATA_INT32, row, x, nullptr, nullptr, 2);
    pointwise(POINTWISE_GEN_INDEX, DATA_INT32, column, x, nullptr, nullptr, 3);
    pointwise(POINTWISE_CMP_LT, DATA_BOOLEAN, row_in, row, query_lengths_);
    pointwise(POINTWISE_CMP_LT, DATA_BOOLEAN, column_in, column, key_lengths_);
    pointwise(POINTWISE_LOGICAL_AND, DATA_BOOLEAN, in, row_in, &column_in);
    pointwise(POINTWISE_BINARY_SELECT, DATA_FLOAT, y, x, &number(kHidden), &in);
    return y;
  }

  /// x where the key is not behind the query, elsewhere minus infinity.
  const Descriptor& causal(const Descriptor& x) {
    const Descriptor &row = score(DATA_INT32), &column = score(DATA_INT32), &seen = score(DATA_BOOLEAN),
                     &y = score(DATA_FLOAT);
    pointwise(POINTWISE_GEN_INDEX, DATA_FLOAT, row, x, nullptr, nullptr, 2);
    pointwise(POINTWISE_GEN_INDEX, DATA_FLOAT, column, x, nullptr, nullptr, 3);
    pointwise(POINTWISE_CMP_GE, DATA_BOOLEAN, seen, row, &column);
    pointwise(POINTWISE_BINARY_SELECT, DATA_FLOAT, y, x, &number(kHiddenCausal), &seen);
    return y;
  }

  /// dk or dv = weights^T rows, summed over the heads that share it. `heads_uid` has the offsets of the sum, which the
  /// library multiplies by the number of these heads.
  void gradient_of_keys(const Descriptor& weights, const Descriptor& of_queries, Uid uid, Uid heads_uid) {
    const Index b = sizes_.documents, h = sizes_.heads, s = sizes_.longest, d = sizes_.head_dim;
    const Descriptor& turned = tensor(next_++, DATA_BFLOAT16, scores_, {h * s * s, s * s, 1, s}, true);
    reshape(weights, turned);
    const Descriptor& gradient = rows(uid, sizes_.kv_heads);
    if (sizes_.kv_heads == h) return matmul(turned, of_queries, gradient, key_lengths_, nullptr, query_lengths_);
    const Index stride = sizes_.strides.at(uid) * (h / sizes_.kv_heads);
    const Descriptor& by_head =
        stored(heads_uid, DATA_BFLOAT16, {b, h, s, d}, {s * stride, d, stride, 1}, &offsets(uid));
    matmul(turned, of_queries, by_head, key_lengths_, nullptr, query_lengths_);
    reduce(REDUCE_TENSOR_ADD, by_head, gradient);
  }

  const AttentionSizes& sizes_;
  std::vector<std::unique_ptr<Descriptor>>& parts_;
  std::vector<void*> operations_;
  Dims scores_, scores_strides_;
  const Descriptor *query_lengths_ = nullptr, *key_lengths_ = nullptr, *scale_ = nullptr;
  std::map<Uid, const Descriptor*> offsets_;
  std::int64_t next_ = 100;
};

bool deterministic_engine(const Descriptor& config) {
  Descriptor engine(BACKEND_ENGINE_DESCRIPTOR);
  void* at = engine.get();
  config.read(ATTR_ENGINECFG_ENGINE, TYPE_BACKEND_DESCRIPTOR, 1, &at);
  int notes[NUMERICAL_NOTE_TYPE_COUNT] = {};
  const std::int64_t count = std::min<std::int64_t>(
      NUMERICAL_NOTE_TYPE_COUNT,
      engine.read(ATTR_ENGINE_NUMERICAL_NOTE, TYPE_NUMERICAL_NOTE, NUMERICAL_NOTE_TYPE_COUNT, notes));
  return std::find(notes, notes + count, NUMERICAL_NOTE_NONDETERMINISTIC) == notes + count;
}

}  // namespace

AttentionGraph::AttentionGraph(bool backward, const AttentionSizes& sizes, Target target) {
  Builder builder(sizes, parts_);
  backward ? builder.backward() : builder.forward();
  graph_ = std::make_unique<Descriptor>(BACKEND_OPERATIONGRAPH_DESCRIPTOR);
  graph_->set(ATTR_OPERATIONGRAPH_OPS, TYPE_BACKEND_DESCRIPTOR, static_cast<std::int64_t>(builder.operations().size()),
              builder.operations().data());
  if (target.handle != nullptr) graph_->set(ATTR_OPERATIONGRAPH_HANDLE, TYPE_HANDLE, 1, &target.handle);
  graph_->finalize(backward ? "the graph of attention's gradients" : "the graph of attention");
}

std::vector<Descriptor> AttentionGraph::engines(Target target, bool deterministic) const {
  std::vector<Descriptor> out;
  for (const Heuristic mode : {HEUR_MODE_A, HEUR_MODE_FALLBACK}) {
    Descriptor heuristic(BACKEND_ENGINEHEUR_DESCRIPTOR);
    heuristic.set(ATTR_ENGINEHEUR_OPERATION_GRAPH, *graph_).set(ATTR_ENGINEHEUR_MODE, TYPE_HEUR_MODE, mode);
    if (target.properties != nullptr) heuristic.set(ATTR_ENGINEHEUR_DEVICEPROP, *target.properties);
    heuristic.finalize("engines for attention");
    const std::int64_t count = heuristic.read(ATTR_ENGINEHEUR_RESULTS, TYPE_BACKEND_DESCRIPTOR, 0, nullptr);
    std::vector<Descriptor> found;
    std::vector<void*> addresses;
    for (std::int64_t i = 0; i < count; ++i) {
      addresses.push_back(found.emplace_back(BACKEND_ENGINECFG_DESCRIPTOR).get());
    }
    if (count == 0) continue;
    const std::int64_t filled =
        heuristic.read(ATTR_ENGINEHEUR_RESULTS, TYPE_BACKEND_DESCRIPTOR, count, addresses.data());
    for (std::int64_t i = 0; i < std::min(count, filled); ++i) {
      Descriptor& config = found[static_cast<std::size_t>(i)];
      if (!deterministic || deterministic_engine(config)) out.push_back(std::move(config));
    }
  }
  return out;
}

AttentionPlan::AttentionPlan(bool backward, const AttentionSizes& sizes, Target target)
    : graph_(std::make_unique<AttentionGraph>(backward, sizes, target)) {
  std::string why = "it has no deterministic engine for these sizes on this GPU";
  for (const Descriptor& config : graph_->engines(target, backward)) {
    try {
      auto plan = std::make_unique<Descriptor>(BACKEND_EXECUTION_PLAN_DESCRIPTOR);
      plan->set(ATTR_EXECUTION_PLAN_ENGINE_CONFIG, config);
      if (target.handle != nullptr) plan->set(ATTR_EXECUTION_PLAN_HANDLE, TYPE_HANDLE, 1, &target.handle);
      if (target.properties != nullptr) plan->set(ATTR_EXECUTION_PLAN_DEVICEPROP, *target.properties);
      plan->finalize("the plan");
      std::int64_t bytes = 0;
      plan->read(ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, TYPE_INT64, 1, &bytes);
      workspace_ = static_cast<std::size_t>(bytes);
      plan_ = std::move(plan);
      return;
    } catch (const std::exception& error) {
      why = error.what();
    }
  }
  throw std::runtime_error("cuDNN: attention of " + std::to_string(sizes.heads) + "/" + std::to_string(sizes.kv_heads) +
                           " heads of " + std::to_string(sizes.head_dim) + ", " + std::to_string(sizes.documents) +
                           " documents of up to " + std::to_string(sizes.longest) + " tokens" +
                           (backward ? ", backward: " : ": ") + why);
}

void AttentionPlan::execute(void* handle, const std::map<std::int64_t, void*>& memory, void* workspace) const {
  std::vector<std::int64_t> uids;
  std::vector<void*> addresses;
  for (const auto& [uid, address] : memory) {
    uids.push_back(uid);
    addresses.push_back(address);
  }
  Descriptor pack(BACKEND_VARIANT_PACK_DESCRIPTOR);
  pack.set(ATTR_VARIANT_PACK_UNIQUE_IDS, uids)
      .set(ATTR_VARIANT_PACK_DATA_POINTERS, TYPE_VOID_PTR, static_cast<std::int64_t>(addresses.size()),
           addresses.data())
      .set(ATTR_VARIANT_PACK_WORKSPACE, TYPE_VOID_PTR, 1, &workspace)
      .finalize("the tensors of attention");
  check(Library::get().execute(handle, plan_->get(), pack.get()), "attention");
}

}  // namespace unfurl::kernels::cudnn

namespace unfurl::kernels {

std::string why_no_cudnn_attention(const DeviceProperties& device) {
  if (device.major != 9) {
    return "cuDNN's attention over packed documents is for GPUs of compute capability 9.x, and " + device.name +
           " is of " + std::to_string(device.major) + "." + std::to_string(device.minor);
  }
  return cudnn::why_unusable();
}

}  // namespace unfurl::kernels
