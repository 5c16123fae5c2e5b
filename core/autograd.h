// Reverse-mode automatic differentiation on a tape.
//
// While a TapeScope is open, each operation records its inputs, its outputs and a function that turns the outputs'
// cotangents into the inputs' gradients. Tape::backward runs these in reverse and frees what they held as it goes.
// Kernels overwrite gradients of activations; where a tensor is used twice, the tape adds. Gradients of leaves (tensors
// with an attached gradient: parameters) accumulate there until their owner clears them.
//
// An operation may write its output into a column slice of a wider tensor, and read column slices: the gradient of a
// slice is that slice of its tensor's gradient. Slices that are written must be disjoint.
#pragma once
#include <functional>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "core/tensor.h"

namespace unfurl {

class Tape;

/// Which part of which variable a tensor is, without holding its memory.
struct Handle {
  Handle() = default;
  explicit Handle(const Tensor& tensor);
  /// The same part of `whole`, which has the variable's shape.
  Tensor view(const Tensor& whole) const;
  /// The columns [first, second) of the variable that this part covers.
  std::pair<Index, Index> columns() const;

  std::shared_ptr<Variable> variable;
  Index offset = 0;
  Index row_stride = 0;
  Shape shape;
  DType dtype = DType::f32;
};

/// What an operation's backward function sees. Cotangents must not be written to.
class Backward {
 public:
  /// The gradient of output i; undefined where nothing depends on it. At least one is defined.
  Tensor cotangent(int i) const;
  /// The same, but zeros where nothing depends on it.
  Tensor cotangent_or_zeros(int i) const;
  /// Whether it is all ones as Tape::backward() started it, and nothing was added. Known without reading it.
  bool cotangent_is_ones(int i) const;
  bool needs(int i) const;
  /// Memory that the caller overwrites with the gradient of input i; undefined where none is needed.
  Tensor gradient(int i);
  /// Memory that the caller adds the gradient of input i to; undefined where none is needed.
  Tensor accumulator(int i);
  /// Says that the gradient of input i is `value`; the memory is shared where possible.
  void pass(int i, const Tensor& value);

 private:
  friend class Tape;
  Backward(Tape& tape, const std::vector<Handle>& inputs, const std::vector<Handle>& outputs)
      : tape_(tape), inputs_(inputs), outputs_(outputs) {}
  Tape& tape_;
  const std::vector<Handle>& inputs_;
  const std::vector<Handle>& outputs_;
  std::vector<Tensor> cotangents_;
  std::vector<std::pair<const Handle*, Tensor>> pending_;  // gradients to add when the function has returned
};

using BackwardFunction = std::function<void(Backward&)>;

class Tape {
 public:
  Tape() = default;
  Tape(const Tape&) = delete;
  Tape& operator=(const Tape&) = delete;

  /// Runs the tape in reverse from `root`, whose cotangent is `cotangent` (undefined: all ones). The tape is empty
  /// afterwards.
  void backward(const Tensor& root, const Tensor& cotangent = {});
  /// The same from several roots at once.
  void backward(const std::vector<std::pair<Tensor, Tensor>>& roots);

  /// Calls `note` in backward() for each leaf that recorded operations read, when nothing more is added to its
  /// gradient. To be set before; what segments that are computed again read counts as read by the whole segment.
  void when_final(std::function<void(const Variable& leaf)> note) { note_ = std::move(note); }
  /// The leaves that recorded operations read, so far.
  std::unordered_set<const Variable*> leaves() const;

  /// The operations recorded.
  std::size_t size() const { return nodes_.size(); }

 private:
  friend class Backward;
  friend void record(const char*, const std::vector<Tensor>&, const std::vector<Tensor>&, BackwardFunction);
  friend std::vector<Tensor> checkpoint(const std::function<std::vector<Tensor>(const std::vector<Tensor>&)>&,
                                        const std::vector<Tensor>&);
  struct Node {
    const char* name;
    std::vector<Handle> inputs, outputs;
    BackwardFunction function;
    std::vector<std::shared_ptr<Variable>> leaves = {};  // that it reads beside its inputs
  };
  template <class Body>
  static void each_leaf(const Node& node, Body body);
  struct Slot {
    Tensor buffer;
    std::vector<std::pair<Index, Index>> written;  // columns, disjoint
    bool shared = false;                           // with another gradient, by pass()
    bool ones = false;                             // as backward() fills a root's
  };

  void run(Node& node);
  Tensor read(const Handle& handle);
  Tensor writable(const Handle& handle, bool& add);
  void cover(Slot& slot, std::pair<Index, Index> columns);
  static void unshare(Slot& slot);
  void add(const Handle& handle, const Tensor& value);
  static Tensor track(const Tensor& tensor);

  std::vector<Node> nodes_;
  std::unordered_map<const Variable*, Slot> slots_;
  std::function<void(const Variable&)> note_;
};

/// Operations of this thread are recorded on `tape` until the end of the scope.
class TapeScope {
 public:
  explicit TapeScope(Tape& tape) : TapeScope(&tape) {}
  ~TapeScope();
  TapeScope(const TapeScope&) = delete;
  TapeScope& operator=(const TapeScope&) = delete;

 protected:
  explicit TapeScope(Tape* tape);

 private:
  Tape* before_;
};

/// Nothing is recorded until the end of the scope.
class NoTapeScope : public TapeScope {
 public:
  NoTapeScope() : TapeScope(nullptr) {}
};

/// Whether an operation of these inputs will be recorded: a tape is open and one of them needs a gradient. Operations
/// ask so that they save nothing in vain.
bool recording(const std::vector<Tensor>& inputs);

/// Records an operation where recording(inputs) holds; its outputs then need gradients too. `name` is a literal.
void record(const char* name, const std::vector<Tensor>& inputs, const std::vector<Tensor>& outputs,
            BackwardFunction backward);

/// function(inputs), of which only the inputs are kept: backward computes it again, then differentiates. `function`
/// must give the same result each time. Inputs and outputs are whole, contiguous tensors.
std::vector<Tensor> checkpoint(const std::function<std::vector<Tensor>(const std::vector<Tensor>&)>& function,
                               const std::vector<Tensor>& inputs);

}  // namespace unfurl
