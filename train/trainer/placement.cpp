#include "train/trainer/placement.h"

#include <mutex>

#include "core/device.h"
#include "kernels/cudnn.h"
#include "kernels/cudnn_attention.h"
#include "train/log.h"

namespace unfurl::train {
namespace {

Device device_of(DeviceChoice choice) {
  switch (choice) {
    case DeviceChoice::cpu:
      return Device::cpu;
    case DeviceChoice::cuda:
      return Device::cuda;
    case DeviceChoice::host_cuda:
      return Device::host_cuda;
    default:
      return best_device();
  }
}

/// How a mistake is mended where the choice was made.
struct Advice {
  const char *device, *precision;
};

Placement placed(DeviceChoice device, Precision precision, bool planning, const Advice& advice) {
  Placement out;
  out.device = device_of(device);
  if (const std::string why = planning ? "" : why_no_models(out.device); !why.empty()) {
    user_error("device is {}, but {}; {}", to_string(device), why, advice.device);
  }
  out.dtype = runs_cuda(out.device) ? DType::bf16 : DType::f32;
  if (precision == Precision::f32) out.dtype = DType::f32;
  const bool fell_back = device == DeviceChoice::automatic && !runs_cuda(out.device) && built_for_gpus();
  const std::string why = fell_back ? why_no_models(Device::cuda) : "";
  if (precision == Precision::bf16 && !runs_cuda(out.device)) {
    user_error("precision is bf16, which the CPU does not compute in{}; {}", fell_back ? ", and " + why : "",
               advice.precision);
  }
  if (fell_back && !planning) {
    static std::once_flag told;
    std::call_once(told, [&] { warn("the CPU computes: {}", why); });
  }
  return out;
}

}  // namespace

Placement placement_of(const Recipe& recipe, bool planning) {
  return placed(recipe.device, recipe.precision, planning, {"set device: cpu", "set precision: f32, or leave it out"});
}

Placement placement_of(DeviceChoice device, Precision precision) {
  return placed(device, precision, false, {"use --device cpu", "use --precision f32, or leave it out"});
}

Placement training_placement_of(const Recipe& recipe, bool planning) {
  Placement out = placement_of(recipe, planning);
  out.attention = recipe.attention;
  if (out.attention == AttentionKind::own) return out;
  const auto refuse = [](const std::string& why) { user_error("attention is cudnn, {}; set attention: own", why); };
  if (out.device != Device::cuda) {
    refuse(fmt::format("which computes on a GPU alone, and this is {}", described({out.device, out.dtype})));
  }
  if (out.dtype != DType::bf16) refuse("which computes in bf16 alone, and precision is f32");
  if (recipe.data.objective != Objective::causal) {
    refuse(fmt::format("which is causal alone, and in objective {} the start of a text attends both ways",
                       to_string(recipe.data.objective)));
  }
  if (recipe.model.tuning.method == Method::prompt_tuning) {
    refuse("which is causal alone, and a soft prompt attends both ways");
  }
  if (recipe.model.head_dim != 64 && recipe.model.head_dim != 128) {
    refuse(fmt::format("which has heads of 64 or 128 elements, and model.head_dim is {}", recipe.model.head_dim));
  }
  if (planning) return out;
  const std::string why = kernels::why_no_cudnn_attention(properties_of(out.device));
  if (!why.empty()) refuse("but " + why);
  return out;
}

std::string described(const Placement& placement) {
  const std::string where = placement.device == Device::cpu          ? "the CPU"
                            : placement.device == Device::host_cuda  ? "CUDA executed on the CPU"
                            : why_unusable(placement.device).empty() ? properties_of(placement.device).name
                                                                     : "a GPU";
  return fmt::format("{} in {}{}", where, name_of(placement.dtype),
                     placement.attention == AttentionKind::cudnn ? ", attention by cuDNN" : "");
}

}  // namespace unfurl::train
