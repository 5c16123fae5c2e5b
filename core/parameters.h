// A model's parameters, in flat arenas: one each for those that decay, those that do not, and those that are frozen (no
// gradient, no optimiser state). A collective, a norm or an optimiser step is one launch per arena.
//
// Where operations compute in bf16, the values they read are roundings of f32 masters, which are what is initialised,
// trained and saved. Gradients are f32 then. Otherwise the masters are the values themselves. Ranks may share the
// masters that are trained: each then holds its own parts alone.
#pragma once
#include <array>
#include <string>
#include <vector>

#include "core/comm/buckets.h"
#include "core/tensor.h"

namespace unfurl {

enum class ParameterGroup { decayed, undecayed, frozen };

constexpr ParameterGroup kParameterGroups[] = {ParameterGroup::decayed, ParameterGroup::undecayed,
                                               ParameterGroup::frozen};

constexpr const char* name_of(ParameterGroup group) {
  constexpr const char* kNames[] = {"decayed", "undecayed", "frozen"};
  return kNames[static_cast<int>(group)];
}

/// A named part of a joint parameter: rows (dimension 0) or columns (dimension 1) [begin, end) of it.
struct ParameterPart {
  std::string name;
  int dimension = 0;
  Index begin = 0;
  Index end = 0;
};

struct Parameter {
  std::string name;
  Shape shape;
  ParameterGroup group = ParameterGroup::decayed;
  std::vector<ParameterPart> parts;  // how it is named in files; empty: as one, under its own name
  Index offset = 0;                  // elements, in its arena
  Tensor value;                      // what operations read
  Tensor master;                     // what is trained: value itself, or its f32 original; undefined where ranks share
                                     // it, but for the length of a WholeMasters
};

class Parameters {
 public:
  /// Announces a parameter before allocate(); returns its number. Each starts at a multiple of 256 bytes of floats.
  std::size_t declare(std::string name, Shape shape, ParameterGroup group, std::vector<ParameterPart> parts = {});

  /// Makes the arenas, zero, and the tensors; with `gradients`, gradients too (zero), attached to the tensors. `dtype`
  /// is that of the values. Without `masters`, those that are trained in bf16 are left to share_masters().
  void allocate(DType dtype, Device device, bool gradients, bool masters = true);
  /// Of the masters that are trained, decayed and undecayed, this rank holds the parts `own` from here on. Where the
  /// masters are the values, nothing changes.
  void share_masters(const std::array<Buckets, 2>& own);
  bool shares_masters() const { return shared_; }

  const Tensor& operator[](std::size_t number) const { return all_[number].value; }
  const std::vector<Parameter>& all() const { return all_; }
  /// The number of elements of all parameters, without the padding between them.
  Index count() const;
  /// Those of one group.
  Index count(ParameterGroup group) const;

  /// The flat arena of a group, [elements]; undefined where it is empty.
  const Tensor& values(ParameterGroup group) const { return values_[static_cast<std::size_t>(group)]; }
  /// Where ranks share them, the elements of Buckets::own(), one part behind the other.
  const Tensor& masters(ParameterGroup group) const { return masters_[static_cast<std::size_t>(group)]; }
  const Tensor& gradients(ParameterGroup group) const { return gradients_[static_cast<std::size_t>(group)]; }

  /// Values from masters, after these were written; for a device, queued. Where ranks share the masters, within a
  /// WholeMasters, of which this rank's parts are kept.
  void round_values() const;

  /// Attaches other flat gradients in place of the current ones, which are returned: [decayed, undecayed].
  std::array<Tensor, 2> swap_gradients(std::array<Tensor, 2> gradients);

 private:
  friend class WholeMasters;
  void attach();
  void set_masters(bool whole);
  std::vector<Parameter> all_;
  std::array<Tensor, 3> values_;
  std::array<Tensor, 3> masters_;
  std::array<Tensor, 3> gradients_;
  std::array<Index, 3> sizes_{};
  bool shared_ = false;
  std::array<Buckets, 2> own_;   // where shared
  std::array<Tensor, 2> whole_;  // in the CPU's memory, for the length of a WholeMasters
};

/// Until the end of the scope each parameter has its whole master, where ranks share them: in the CPU's memory, zeros
/// until somebody writes to it. What is written counts from Parameters::round_values() on. A scope within a scope does
/// nothing, nor does one of parameters whose masters are not shared.
class WholeMasters {
 public:
  explicit WholeMasters(Parameters& parameters);
  ~WholeMasters();
  WholeMasters(const WholeMasters&) = delete;
  WholeMasters& operator=(const WholeMasters&) = delete;

  /// The arena of a group that ranks share.
  const Tensor& of(ParameterGroup group) const { return parameters_.whole_[static_cast<std::size_t>(group)]; }

 private:
  Parameters& parameters_;
  const bool outer_;
};

}  // namespace unfurl
