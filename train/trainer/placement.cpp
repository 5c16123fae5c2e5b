#include "train/trainer/placement.h"

#include "core/device.h"

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

}  // namespace

Placement placement_of(const Recipe& recipe, bool planning) {
  return placement_of(recipe.device, recipe.precision, planning);
}

Placement placement_of(DeviceChoice device, Precision precision, bool planning) {
  Placement out;
  out.device = device_of(device);
  if (const std::string why = planning ? "" : why_unusable(out.device); !why.empty()) {
    user_error("device is {}, but {}; set device: cpu", to_string(device), why);
  }
  out.dtype = runs_cuda(out.device) ? DType::bf16 : DType::f32;
  if (precision == Precision::f32) out.dtype = DType::f32;
  if (precision == Precision::bf16 && !runs_cuda(out.device)) {
    user_error("precision is bf16, which the CPU does not compute in{}; set precision: f32, or leave it out",
               device == DeviceChoice::automatic ? ", and there is no GPU to be used" : "");
  }
  return out;
}

std::string described(const Placement& placement) {
  const std::string where = placement.device == Device::cpu          ? "the CPU"
                            : placement.device == Device::host_cuda  ? "CUDA executed on the CPU"
                            : why_unusable(placement.device).empty() ? properties_of(placement.device).name
                                                                     : "a GPU";
  return fmt::format("{} in {}", where, name_of(placement.dtype));
}

}  // namespace unfurl::train
