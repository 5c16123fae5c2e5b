#include "core/parameters.h"

#include <algorithm>
#include <utility>

#include "core/copy.h"

namespace unfurl {
namespace {

constexpr Index kAlignment = 64;          // elements: 256 bytes of floats
constexpr Index kPiece = Index{1} << 22;  // elements of masters that are on their way to a device at a time

/// parts = what `own` takes of the whole.
void copy_own(const Tensor& parts, const Buckets& own, const Tensor& whole) {
  Index at = 0;
  for (const Range& part : own.own()) {
    copy_into(parts.span_of(at, {part.size()}), whole.span_of(part.begin, {part.size()}));
    at += part.size();
  }
}

}  // namespace

std::size_t Parameters::declare(std::string name, Shape shape, ParameterGroup group, std::vector<ParameterPart> parts) {
  require(!values_[0].defined() && !values_[1].defined(), "Parameters: {} is declared after allocate()", name);
  Parameter parameter{std::move(name), shape, group, std::move(parts), 0, {}, {}};
  Index& size = sizes_[static_cast<std::size_t>(group)];
  parameter.offset = size;
  size += (shape.numel() + kAlignment - 1) / kAlignment * kAlignment;
  all_.push_back(std::move(parameter));
  return all_.size() - 1;
}

void Parameters::allocate(DType dtype, Device device, bool gradients, bool masters) {
  for (std::size_t group = 0; group < 3; ++group) {
    if (sizes_[group] == 0) continue;
    const bool trained = gradients && group != static_cast<std::size_t>(ParameterGroup::frozen);
    const MemoryName memory("parameters");
    values_[group] = Tensor::zeros({sizes_[group]}, dtype, device);
    masters_[group] = values_[group];
    if (dtype == DType::bf16) {
      const MemoryName of_masters("master weights");
      masters_[group] = masters || !trained ? Tensor::zeros({sizes_[group]}, DType::f32, device) : Tensor();
    }
    if (trained) {
      const MemoryName of_gradients("gradients");
      gradients_[group] = Tensor::zeros({sizes_[group]}, accumulator(dtype), device);
    }
  }
  for (Parameter& parameter : all_) {
    parameter.value = values(parameter.group).span_of(parameter.offset, parameter.shape);
    if (dtype != DType::bf16) {
      parameter.master = parameter.value;
    } else if (const Tensor& flat = this->masters(parameter.group); flat.defined()) {
      parameter.master = flat.span_of(parameter.offset, parameter.shape);
    }
  }
  attach();
}

void Parameters::share_masters(const std::array<Buckets, 2>& own) {
  for (std::size_t group = 0; group < 2; ++group) {
    const Tensor& values = values_[group];
    if (!values.defined() || values.dtype() != DType::bf16) continue;
    require(!shared_ || own_[group].count == 0, "Parameters: the masters are shared already");
    require(own[group].count == values.numel(), "Parameters: {} masters are shared as {}", values.numel(),
            own[group].count);
    own_[group] = own[group];
    const MemoryName memory("master weights");
    const Tensor parts = Tensor::zeros({own[group].own_count()}, DType::f32, values.device());
    if (masters_[group].defined()) copy_own(parts, own[group], masters_[group]);
    masters_[group] = parts;
    shared_ = true;
  }
  if (shared_) set_masters(false);
}

/// Of those that ranks share: parts of whole_, or undefined.
void Parameters::set_masters(bool whole) {
  for (Parameter& parameter : all_) {
    if (parameter.group == ParameterGroup::frozen) continue;
    const Tensor& flat = whole_[static_cast<std::size_t>(parameter.group)];
    parameter.master = whole ? flat.span_of(parameter.offset, parameter.shape) : Tensor();
  }
}

WholeMasters::WholeMasters(Parameters& parameters)
    : parameters_(parameters),
      outer_(parameters.shared_ && !parameters.whole_[0].defined() && !parameters.whole_[1].defined()) {
  if (!outer_) return;
  const MemoryName memory("master weights");
  for (std::size_t group = 0; group < 2; ++group) {
    if (parameters.masters_[group].defined()) {
      parameters.whole_[group] = Tensor::zeros({parameters.sizes_[group]}, DType::f32);
    }
  }
  parameters.set_masters(true);
}

WholeMasters::~WholeMasters() {
  if (!outer_) return;
  parameters_.whole_ = {};
  parameters_.set_masters(false);
}

void Parameters::attach() {
  for (Parameter& parameter : all_) {
    const Tensor& flat = gradients(parameter.group);
    if (flat.defined()) parameter.value.attach_gradient(flat.span_of(parameter.offset, parameter.shape));
  }
}

void Parameters::round_values() const {
  for (std::size_t group = 0; group < 3; ++group) {
    const Tensor &values = values_[group], &masters = masters_[group];
    if (!values.defined() || values.dtype() == masters.dtype() || values.device() == Device::meta) continue;
    if (!shared_ || group == static_cast<std::size_t>(ParameterGroup::frozen)) {
      copy_into(values, masters);
      continue;
    }
    const Tensor& whole = whole_[group];
    require(whole.defined(), "Parameters: the masters are shared by ranks, and nobody has all of them");
    copy_own(masters, own_[group], whole);
    // On the way to the device the masters take little of its memory.
    const MemoryName memory("master weights");
    const Tensor piece = Tensor::empty({std::min(kPiece, whole.numel())}, DType::f32, values.device());
    for (Index at = 0; at < whole.numel(); at += kPiece) {
      const Index count = std::min(kPiece, whole.numel() - at);
      copy_into(piece.span_of(0, {count}), whole.span_of(at, {count}));
      copy_into(values.span_of(at, {count}), piece.span_of(0, {count}));
    }
  }
}

Index Parameters::count() const {
  Index total = 0;
  for (const Parameter& parameter : all_) total += parameter.shape.numel();
  return total;
}

Index Parameters::count(ParameterGroup group) const {
  Index total = 0;
  for (const Parameter& parameter : all_) total += parameter.group == group ? parameter.shape.numel() : 0;
  return total;
}

std::array<Tensor, 2> Parameters::swap_gradients(std::array<Tensor, 2> gradients) {
  for (std::size_t group = 0; group < 2; ++group) {
    require(gradients[group].defined() == gradients_[group].defined() &&
                (!gradients[group].defined() || gradients[group].shape() == gradients_[group].shape()),
            "Parameters: the gradients to swap in have other shapes");
    std::swap(gradients[group], gradients_[group]);
  }
  attach();
  return gradients;
}

}  // namespace unfurl
