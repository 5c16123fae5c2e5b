#include "train/model/merge.h"

#include <unordered_map>

#include "core/copy.h"
#include "core/dispatch.h"
#include "kernels/elementwise.h"
#include "kernels/matmul.h"
#include "train/trainer/checkpoint.h"

namespace unfurl::train {
namespace {

constexpr std::string_view kA = ".lora_a.weight", kB = ".lora_b.weight";

/// weight += scale * b a.
void add_low_rank(const Tensor& weight, const Tensor& b, const Tensor& a, double scale) {
  const Index rows = weight.rows(), cols = weight.cols();
  const Tensor delta = Tensor::empty({rows, cols}, DType::f32);
  kernels::matmul<kernels::CpuQueue, float>(cpu_queue(), delta.matrix<float>(), b.matrix<float>(), false,
                                            a.matrix<float>(), false, rows, cols, a.rows(), false);
  kernels::scale<kernels::CpuQueue, float>(cpu_queue(), delta.matrix<float>(), delta.matrix<const float>(),
                                           static_cast<float>(scale), rows, cols);
  kernels::add<kernels::CpuQueue, float>(cpu_queue(), weight.matrix<float>(), weight.matrix<const float>(),
                                         delta.matrix<const float>(), rows, cols);
}

}  // namespace

bool is_of_method(const std::string& tensor) {
  return tensor == "soft_prompt.weight" || tensor.ends_with(kA) || tensor.ends_with(kB);
}

ModelConfig merged_config(ModelConfig config) {
  if (config.tuning.method == Method::lora) config.tuning.method = Method::full;
  return config;
}

std::unique_ptr<Decoder> merged(const Decoder& from, DType dtype, Device device) {
  auto out = std::make_unique<Decoder>(merged_config(from.config()), dtype, device, false);
  std::unordered_map<std::string, Tensor> there;
  for (const NamedTensor& named : named_tensors(from.parameters())) there.emplace(named.name, named.tensor);
  const auto here = [&](const std::string& name) {
    const auto found = there.find(name);
    require(found != there.end(), "merged: the model has no \"{}\"", name);
    const Tensor copy = Tensor::empty(found->second.shape(), DType::f32);
    copy_into(copy, found->second.to(Device::cpu));
    return copy;
  };
  const LoraConfig& lora = from.config().tuning.lora;
  for (const NamedTensor& named : named_tensors(out->parameters())) {
    const Tensor weight = here(named.name);
    const std::string stem = named.name.substr(0, named.name.rfind(".weight"));
    if (there.contains(stem + std::string(kA))) {
      add_low_rank(weight, here(stem + std::string(kB)), here(stem + std::string(kA)),
                   lora.alpha / static_cast<double>(lora.rank));
    }
    named.tensor.write(weight.data<float>());
  }
  out->parameters().round_values();
  return out;
}

}  // namespace unfurl::train
