#include "core/parameters.h"

#include <utility>

#include "core/copy.h"

namespace unfurl {
namespace {
constexpr Index kAlignment = 64;  // elements: 256 bytes of floats
}

std::size_t Parameters::declare(std::string name, Shape shape, ParameterGroup group, std::vector<ParameterPart> parts) {
  require(!values_[0].defined() && !values_[1].defined(), "Parameters: {} is declared after allocate()", name);
  Parameter parameter{std::move(name), shape, group, std::move(parts), 0, {}, {}};
  Index& size = sizes_[static_cast<std::size_t>(group)];
  parameter.offset = size;
  size += (shape.numel() + kAlignment - 1) / kAlignment * kAlignment;
  all_.push_back(std::move(parameter));
  return all_.size() - 1;
}

void Parameters::allocate(DType dtype, Device device, bool gradients) {
  for (std::size_t group = 0; group < 3; ++group) {
    if (sizes_[group] == 0) continue;
    const MemoryName memory("parameters");
    values_[group] = Tensor::zeros({sizes_[group]}, dtype, device);
    masters_[group] = values_[group];
    if (dtype == DType::bf16) {
      const MemoryName of_masters("master weights");
      masters_[group] = Tensor::zeros({sizes_[group]}, DType::f32, device);
    }
    if (gradients && group != static_cast<std::size_t>(ParameterGroup::frozen)) {
      const MemoryName of_gradients("gradients");
      gradients_[group] = Tensor::zeros({sizes_[group]}, accumulator(dtype), device);
    }
  }
  for (Parameter& parameter : all_) {
    parameter.value = values(parameter.group).span_of(parameter.offset, parameter.shape);
    parameter.master =
        dtype == DType::bf16 ? masters(parameter.group).span_of(parameter.offset, parameter.shape) : parameter.value;
  }
  attach();
}

void Parameters::attach() {
  for (Parameter& parameter : all_) {
    const Tensor& flat = gradients(parameter.group);
    if (flat.defined()) parameter.value.attach_gradient(flat.span_of(parameter.offset, parameter.shape));
  }
}

void Parameters::round_values() const {
  for (std::size_t group = 0; group < 3; ++group) {
    if (values_[group].defined() && values_[group].dtype() != masters_[group].dtype()) {
      copy_into(values_[group], masters_[group]);
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
