#include "core/optim/optimizer.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>

#include "core/copy.h"
#include "core/dispatch.h"
#include "kernels/adamw.h"

namespace unfurl {
namespace {

constexpr ParameterGroup kTrained[] = {ParameterGroup::decayed, ParameterGroup::undecayed};

constexpr std::size_t kStepBytes = sizeof(kernels::OptimizerStep);
static_assert(kStepBytes % sizeof(double) == 0);

/// What the host writes before every step: the first members of a kernels::OptimizerStep.
constexpr std::size_t kSettingsBytes = offsetof(kernels::OptimizerStep, skip_norm) + sizeof(double);

/// Partial sums of the norm.
Index blocks_of(const Parameters& parameters) {
  Index blocks = 0;
  for (const ParameterGroup group : kTrained) {
    const Tensor& gradients = parameters.gradients(group);
    if (gradients.defined()) blocks += kernels::norm_blocks(gradients.numel());
  }
  return blocks;
}

/// The sum of a group's partial sums.
double in_order(const double* sums, Index count) {
  double sum = 0;
  for (Index i = 0; i < count; ++i) sum += sums[i];
  return sum;
}

double sum_of_squares(const Tensor& x) {
  double sum = 0;
  dispatch_sums("gradient_norm", x, [&]<class T>(const auto& queue) {
    sum = kernels::sum_of_squares(queue, static_cast<const T*>(x.data<T>()), x.numel());
  });
  return sum;
}

}  // namespace

Optimizer::OnDevice::OnDevice(const Parameters& parameters, Device on)
    : device(on),
      partials(blocks_of(parameters)),
      memory(Tensor::zeros({static_cast<Index>(kStepBytes / sizeof(double)) + partials}, DType::f64, on)),
      settings{Settings{{on, kSettingsBytes}, {}}, Settings{{on, kSettingsBytes}, {}}} {}

kernels::OptimizerStep* Optimizer::OnDevice::step() const {
  return reinterpret_cast<kernels::OptimizerStep*>(memory.data<double>());
}

double* Optimizer::OnDevice::sums() const { return memory.data<double>() + kStepBytes / sizeof(double); }

Optimizer::Optimizer(Parameters& parameters, const kernels::StepPolicy& policy, OptimizerShare share)
    : parameters_(&parameters), policy_(policy), share_(std::move(share)) {
  Device device = Device::cpu;
  for (const ParameterGroup group : kTrained) {
    const Tensor& gradients = parameters.gradients(group);
    require(parameters.values(group).defined() == gradients.defined(), "optimizer: the {} parameters have no gradients",
            name_of(group));
    if (gradients.defined()) device = gradients.device();
  }
  if (runs_cuda(device)) on_device_ = std::make_unique<OnDevice>(parameters, device);
}

template <class Body>
void Optimizer::each_group(Body body) const {
  Index first = 0;
  for (const ParameterGroup group : kTrained) {
    const Tensor& gradients = parameters_->gradients(group);
    if (!gradients.defined()) continue;
    body(group, gradients, first);
    first += kernels::norm_blocks(gradients.numel());
  }
}

Buckets Optimizer::buckets(ParameterGroup group) const {
  const Tensor& values = parameters_->values(group);
  return {values.defined() ? values.numel() : 0, share_.bucket, share_.ranks, share_.rank};
}

template <class Queue, class T>
void Optimizer::sum_squares(const Queue& queue, double* sums, const T* gradients, const Buckets& whole) const {
  for (const Range& own : whole.own()) {
    kernels::sum_squares_of_blocks(queue, sums + own.begin / kernels::kNormBlock, gradients + own.begin, own.size());
  }
  if (share_.ranks > 1) share_.gather_sums(sums, whole);
}

double Optimizer::step(double learning_rate) {
  if (on_device_) {
    queue_settings(learning_rate);
    queue_update();
    const PinnedMemory pinned(on_device_->device, outcome_bytes());
    queue_outcome(pinned.data());
    synchronize(on_device_->device);
    return outcome(pinned.data()).norm;
  }
  const double total = norm();
  if (std::isfinite(total)) apply(learning_rate, total);
  return total;
}

double Optimizer::norm() {
  sums_.assign(static_cast<std::size_t>(blocks_of(*parameters_)), 0);
  double squares = 0;
  each_group([&](ParameterGroup group, const Tensor& gradients, Index first) {
    double* const sums = sums_.data() + first;
    dispatch_sums("gradient_norm", gradients, [&]<class T>(const auto& queue) {
      sum_squares(queue, sums, static_cast<const T*>(gradients.data<T>()), buckets(group));
    });
    squares += in_order(sums, kernels::norm_blocks(gradients.numel()));
  });
  return std::sqrt(squares);
}

void Optimizer::apply(double learning_rate, double norm) {
  ++steps_;
  const double clip = policy_.clip_norm;
  update(learning_rate, clip > 0 && norm > clip ? clip / norm : 1.0);
}

std::string Optimizer::not_finite() const {
  return share_.ranks > 1 ? first_non_finite(sums_.data()) : unfurl::first_non_finite(*parameters_);
}

void Optimizer::set_steps(Index steps) {
  steps_ = steps;
  if (!on_device_) return;
  on_device(on_device_->device, [&](const auto& queue) {
    queue.copy(&on_device_->step()->steps, &steps_, sizeof(steps_));
    queue.synchronize();
  });
}

void Optimizer::queue_settings(double learning_rate, double skip_norm) {
  OnDevice::Settings& settings = on_device_->settings[on_device_->next++ % on_device_->settings.size()];
  settings.copied.wait();
  kernels::OptimizerStep step;
  step.learning_rate = learning_rate;
  step.skip_norm = skip_norm;
  std::memcpy(settings.memory.data(), &step, kSettingsBytes);
  on_device(on_device_->device,
            [&](const auto& queue) { queue.copy(on_device_->step(), settings.memory.data(), kSettingsBytes); });
  settings.copied = Event(on_device_->device);
}

void Optimizer::queue_update() {
  each_group([&](ParameterGroup group, const Tensor& gradients, Index first) {
    on_device(on_device_->device, [&](const auto& queue) {
      sum_squares(queue, on_device_->sums() + first, static_cast<const float*>(gradients.data<float>()),
                  buckets(group));
    });
  });
  on_device(on_device_->device, [&](const auto& queue) {
    kernels::begin_step(queue, on_device_->step(), on_device_->sums(), on_device_->partials, policy_);
  });
  update(on_device_->step());
}

std::size_t Optimizer::outcome_bytes() const {
  return kStepBytes + static_cast<std::size_t>(on_device_->partials) * sizeof(double);
}

void Optimizer::queue_outcome(std::byte* pinned) const {
  on_device(on_device_->device, [&](const auto& queue) { queue.copy(pinned, on_device_->step(), outcome_bytes()); });
}

Update Optimizer::outcome(const std::byte* pinned) {
  kernels::OptimizerStep step;
  std::memcpy(&step, pinned, sizeof(step));
  steps_ = step.steps;
  Update out{step.norm, step.skip == 0, {}};
  if (!std::isfinite(out.norm)) out.bad = first_non_finite(reinterpret_cast<const double*>(pinned + kStepBytes));
  return out;
}

/// The parameters in the first block of gradients whose sum of squares is not finite.
std::string Optimizer::first_non_finite(const double* sums) const {
  for (const ParameterGroup group : kTrained) {
    const Tensor& gradients = parameters_->gradients(group);
    if (!gradients.defined()) continue;
    const Index blocks = kernels::norm_blocks(gradients.numel());
    const auto bad =
        static_cast<Index>(std::find_if_not(sums, sums + blocks, [](double sum) { return std::isfinite(sum); }) - sums);
    sums += blocks;
    if (bad == blocks) continue;
    const Index begin = bad * kernels::kNormBlock, end = begin + kernels::kNormBlock;
    std::vector<std::string> names;
    for (const Parameter& parameter : parameters_->all()) {
      const bool within =
          parameter.group == group && parameter.offset < end && parameter.offset + parameter.shape.numel() > begin;
      if (within) names.push_back(parameter.name);
    }
    return names.size() == 1 ? names[0] : fmt::format("one of {} ... {}", names.front(), names.back());
  }
  return "all together, which overflows";
}

double gradient_norm(const Parameters& parameters) {
  double sum = 0;
  for (const ParameterGroup group : kTrained) {
    if (const Tensor& gradients = parameters.gradients(group); gradients.defined()) sum += sum_of_squares(gradients);
  }
  return std::sqrt(sum);
}

std::string first_non_finite(const Parameters& parameters) {
  for (const Parameter& parameter : parameters.all()) {
    const Tensor gradient = parameter.value.gradient();
    if (gradient.defined() && !std::isfinite(sum_of_squares(gradient))) return parameter.name;
  }
  return {};
}

void clear_gradients(const Parameters& parameters) {
  for (const ParameterGroup group : kTrained) {
    if (const Tensor& gradients = parameters.gradients(group); gradients.defined()) fill(gradients, 0);
  }
}

}  // namespace unfurl
