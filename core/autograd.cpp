#include "core/autograd.h"

#include <algorithm>

#include "core/copy.h"

namespace unfurl {
namespace {

thread_local Tape* current_tape = nullptr;

/// Where the leaves that operations read are noted while they are not recorded.
thread_local std::vector<std::shared_ptr<Variable>>* unrecorded_leaves = nullptr;

}  // namespace

Handle::Handle(const Tensor& tensor)
    : variable(tensor.variable_),
      offset(tensor.offset_ - tensor.origin_),
      row_stride(tensor.row_stride_),
      shape(tensor.shape_),
      dtype(tensor.dtype_) {}

Tensor Handle::view(const Tensor& whole) const {
  Tensor out = whole;
  out.offset_ += offset;
  out.shape_ = shape;
  out.row_stride_ = row_stride;
  return out;
}

std::pair<Index, Index> Handle::columns() const {
  const Shape& whole = variable->shape;
  const Index width = whole.rank() == 0 ? 1 : whole[-1];
  if (shape.numel() == whole.numel()) return {0, width};
  if (whole.numel() == width) return {offset, offset + shape.numel()};
  return {offset % width, offset % width + shape[-1]};
}

Tensor Backward::cotangent(int i) const { return cotangents_[static_cast<std::size_t>(i)]; }

Tensor Backward::cotangent_or_zeros(int i) const {
  const Tensor found = cotangent(i);
  if (found.defined()) return found;
  const Handle& handle = outputs_[static_cast<std::size_t>(i)];
  return Tensor::zeros(handle.shape, handle.dtype, handle.variable->device);
}

bool Backward::cotangent_is_ones(int i) const {
  const auto found = tape_.slots_.find(outputs_[static_cast<std::size_t>(i)].variable.get());
  return found != tape_.slots_.end() && found->second.ones;
}

bool Backward::needs(int i) const { return inputs_[static_cast<std::size_t>(i)].variable->needs_gradient; }

Tensor Backward::gradient(int i) {
  if (!needs(i)) return {};
  const Handle& handle = inputs_[static_cast<std::size_t>(i)];
  bool add = false;
  Tensor out = tape_.writable(handle, add);
  if (add) pending_.emplace_back(&handle, out);
  return out;
}

Tensor Backward::accumulator(int i) {
  if (!needs(i)) return {};
  const Handle& handle = inputs_[static_cast<std::size_t>(i)];
  if (handle.variable->attached.defined()) return handle.view(handle.variable->attached);
  Tape::Slot& slot = tape_.slots_[handle.variable.get()];
  const DType sums = unfurl::accumulator(handle.dtype);
  if (!slot.buffer.defined()) slot.buffer = Tensor::empty(handle.variable->shape, sums, handle.variable->device);
  Tape::unshare(slot);
  if (slot.buffer.dtype() != sums) {
    const Tensor wider = Tensor::empty(handle.variable->shape, sums, handle.variable->device);
    copy_into(wider, slot.buffer);
    slot.buffer = wider;
  }
  tape_.cover(slot, handle.columns());
  return handle.view(slot.buffer);
}

void Backward::pass(int i, const Tensor& value) {
  if (!needs(i)) return;
  const Handle& handle = inputs_[static_cast<std::size_t>(i)];
  const bool whole = handle.shape.numel() == handle.variable->shape.numel();
  if (!handle.variable->attached.defined() && whole && value.contiguous()) {
    Tape::Slot& slot = tape_.slots_[handle.variable.get()];
    if (!slot.buffer.defined()) {
      slot.buffer = value.span_of(0, handle.variable->shape);
      slot.shared = true;
      slot.written = {handle.columns()};
      return;
    }
  }
  bool add = false;
  const Tensor target = tape_.writable(handle, add);
  if (add) {
    pending_.emplace_back(&handle, value);
  } else {
    copy_into(target, value);
  }
}

/// Fills with zeros those of `columns` that nothing has written yet, and counts them as written.
void Tape::cover(Slot& slot, std::pair<Index, Index> columns) {
  const Index width = slot.buffer.cols();
  const Tensor matrix = slot.buffer.reshape({width == 0 ? 0 : slot.buffer.numel() / width, width});
  std::sort(slot.written.begin(), slot.written.end());
  std::vector<std::pair<Index, Index>> gaps;
  Index at = columns.first;
  for (const auto& [begin, end] : slot.written) {
    if (end <= at) continue;
    if (begin >= columns.second) break;
    if (begin > at) gaps.emplace_back(at, begin);
    at = std::max(at, end);
  }
  if (at < columns.second) gaps.emplace_back(at, columns.second);
  for (const auto& gap : gaps) {
    fill(matrix.columns(gap.first, gap.second), 0);
    slot.written.push_back(gap);
  }
}

/// The gradient that has arrived for this part; undefined where none has.
Tensor Tape::read(const Handle& handle) {
  const auto found = slots_.find(handle.variable.get());
  if (found == slots_.end()) return {};
  const auto [begin, end] = handle.columns();
  const bool any =
      std::any_of(found->second.written.begin(), found->second.written.end(),
                  [begin = begin, end = end](const auto& range) { return range.first < end && begin < range.second; });
  if (!any && begin != end) return {};
  cover(found->second, {begin, end});
  const Tensor gradient = handle.view(found->second.buffer);
  if (gradient.dtype() == handle.dtype) return gradient;
  const Tensor rounded =
      Tensor::empty(handle.shape, handle.dtype, gradient.device());  // of sums that accumulator() gave
  copy_into(rounded, gradient);
  return rounded;
}

/// Memory for a gradient of this part: its place, or where something is there already (`add`) memory of its own.
Tensor Tape::writable(const Handle& handle, bool& add) {
  add = handle.variable->attached.defined();
  if (!add) {
    Slot& slot = slots_[handle.variable.get()];
    if (!slot.buffer.defined()) {
      slot.buffer = Tensor::empty(handle.variable->shape, handle.variable->dtype, handle.variable->device);
    }
    const auto columns = handle.columns();
    add = std::any_of(slot.written.begin(), slot.written.end(),
                      [&](const auto& range) { return range.first < columns.second && columns.first < range.second; });
    add = add || slot.buffer.dtype() != handle.dtype;
    if (!add) {
      slot.written.push_back(columns);
      return handle.view(slot.buffer);
    }
  }
  return Tensor::empty(handle.shape, handle.dtype, handle.variable->device);
}

/// Before something is added: where pass() shared the memory, its other holder must not see the sum.
void Tape::unshare(Slot& slot) {
  slot.ones = false;
  if (!std::exchange(slot.shared, false) || slot.buffer.storage_.use_count() == 1) return;
  const Tensor own = slot.buffer.empty_like();
  copy_into(own, slot.buffer);
  slot.buffer = own;
}

void Tape::add(const Handle& handle, const Tensor& value) {
  if (handle.variable->attached.defined()) {
    add_into(handle.view(handle.variable->attached), value);
    return;
  }
  Slot& slot = slots_[handle.variable.get()];
  unshare(slot);
  cover(slot, handle.columns());
  add_into(handle.view(slot.buffer), value);
}

void Tape::run(Node& node) {
  Backward backward(*this, node.inputs, node.outputs);
  bool any = false;
  for (const Handle& output : node.outputs) {
    backward.cotangents_.push_back(read(output));
    any = any || backward.cotangents_.back().defined();
  }
  if (any) {
    const MemoryName memory("gradients of activations");
    node.function(backward);
    node.function = nullptr;
    backward.cotangents_.clear();
    for (const auto& [handle, value] : backward.pending_) add(*handle, value);
  }
  for (const Handle& output : node.outputs) {
    if (--output.variable->producers == 0) slots_.erase(output.variable.get());
  }
}

void Tape::backward(const Tensor& root, const Tensor& cotangent) { backward({{root, cotangent}}); }

void Tape::backward(const std::vector<std::pair<Tensor, Tensor>>& roots) {
  const NoTapeScope nothing_recorded;
  for (const auto& [root, cotangent] : roots) {
    require(root.defined() && root.needs_gradient(), "Tape::backward: nothing was recorded for the root");
    require(!cotangent.defined() || cotangent.shape() == root.shape(),
            "Tape::backward: the cotangent must be {}, got {}", root.shape(), cotangent.shape());
    Tensor seed = Tensor::empty(root.shape(), root.dtype(), root.device());
    if (cotangent.defined()) {
      copy_into(seed, cotangent);
    } else {
      fill(seed, 1);
    }
    const Handle handle(root);
    Slot& slot = slots_[handle.variable.get()];
    const bool first = !slot.buffer.defined();
    if (first) slot.buffer = Tensor::empty(handle.variable->shape, root.dtype(), root.device());
    add(handle, seed);
    slot.ones = first && !cotangent.defined() && root.numel() == handle.variable->shape.numel();
  }
  std::unordered_map<const Variable*, Index> readers;
  if (note_) {
    for (const Node& node : nodes_) each_leaf(node, [&](const Variable& leaf) { ++readers[&leaf]; });
  }
  while (!nodes_.empty()) {
    Node node = std::move(nodes_.back());
    nodes_.pop_back();
    run(node);
    if (!note_) continue;
    each_leaf(node, [&](const Variable& leaf) {
      if (--readers.at(&leaf) == 0) note_(leaf);
    });
  }
}

/// Calls body(leaf) for each that the operation reads, as often as it does.
template <class Body>
void Tape::each_leaf(const Node& node, Body body) {
  for (const Handle& input : node.inputs) {
    if (input.variable->attached.defined()) body(*input.variable);
  }
  for (const auto& leaf : node.leaves) body(*leaf);
}

std::unordered_set<const Variable*> Tape::leaves() const {
  std::unordered_set<const Variable*> out;
  for (const Node& node : nodes_) each_leaf(node, [&](const Variable& leaf) { out.insert(&leaf); });
  return out;
}

/// The same values as a new variable that collects a gradient on this tape.
Tensor Tape::track(const Tensor& tensor) {
  Tensor out = tensor.detach();
  out.variable_->needs_gradient = true;
  return out;
}

TapeScope::TapeScope(Tape* tape) : before_(std::exchange(current_tape, tape)) {}
TapeScope::~TapeScope() { current_tape = before_; }

bool recording(const std::vector<Tensor>& inputs) {
  if (current_tape == nullptr && unrecorded_leaves != nullptr) {
    for (const Tensor& input : inputs) {
      if (input.gradient().defined()) unrecorded_leaves->push_back(Handle(input).variable);
    }
  }
  return current_tape != nullptr &&
         std::any_of(inputs.begin(), inputs.end(), [](const Tensor& input) { return input.needs_gradient(); });
}

void record(const char* name, const std::vector<Tensor>& inputs, const std::vector<Tensor>& outputs,
            BackwardFunction backward) {
  if (!recording(inputs)) return;
  Tape::Node node{name, {}, {}, std::move(backward)};
  for (const Tensor& input : inputs) {
    node.inputs.push_back(input.defined() ? Handle(input) : Handle());
    if (!input.defined()) node.inputs.back().variable = std::make_shared<Variable>();
  }
  for (const Tensor& output : outputs) {
    Handle handle(output);
    handle.variable->needs_gradient = true;
    ++handle.variable->producers;
    node.outputs.push_back(std::move(handle));
  }
  current_tape->nodes_.push_back(std::move(node));
}

namespace {

class NoteLeavesScope {
 public:
  explicit NoteLeavesScope(std::vector<std::shared_ptr<Variable>>& leaves)
      : before_(std::exchange(unrecorded_leaves, &leaves)) {}
  ~NoteLeavesScope() { unrecorded_leaves = before_; }
  NoteLeavesScope(const NoteLeavesScope&) = delete;
  NoteLeavesScope& operator=(const NoteLeavesScope&) = delete;

 private:
  std::vector<std::shared_ptr<Variable>>* before_;
};

}  // namespace

std::vector<Tensor> checkpoint(const std::function<std::vector<Tensor>(const std::vector<Tensor>&)>& function,
                               const std::vector<Tensor>& inputs) {
  Tape* const tape = current_tape;
  if (tape == nullptr) return function(inputs);
  std::vector<Tensor> outputs;
  std::vector<std::shared_ptr<Variable>> parameters;
  {
    const NoTapeScope nothing_recorded;
    const NoteLeavesScope noted(parameters);
    outputs = function(inputs);
  }
  std::vector<Tensor> kept;
  for (const Tensor& input : inputs) kept.push_back(input.detach());
  Tape::Node node{"checkpoint", {}, {}, [function, kept](Backward& backward) {
                    Tape inner;
                    std::vector<Tensor> leaves, again;
                    for (const Tensor& input : kept) leaves.push_back(Tape::track(input));
                    {
                      const TapeScope scope(inner);
                      const MemoryName memory("activations");
                      again = function(leaves);
                    }
                    std::vector<std::pair<Tensor, Tensor>> roots;
                    for (std::size_t i = 0; i < again.size(); ++i) {
                      const Tensor cotangent = backward.cotangent(static_cast<int>(i));
                      if (cotangent.defined() && again[i].needs_gradient()) roots.emplace_back(again[i], cotangent);
                    }
                    again.clear();
                    inner.backward(roots);
                    for (std::size_t i = 0; i < leaves.size(); ++i) {
                      const Tensor gradient = inner.read(Handle(leaves[i]));
                      if (gradient.defined()) backward.pass(static_cast<int>(i), gradient);
                    }
                  }};
  node.leaves = std::move(parameters);
  for (const Tensor& input : inputs) node.inputs.emplace_back(input);
  for (const Tensor& output : outputs) {
    Handle handle(output);
    require(output.contiguous() && output.numel() == handle.variable->shape.numel(),
            "checkpoint: outputs must be whole tensors");
    handle.variable->needs_gradient = true;
    ++handle.variable->producers;
    node.outputs.push_back(std::move(handle));
  }
  tape->nodes_.push_back(std::move(node));
  return outputs;
}

}  // namespace unfurl
