// Where a run computes, and in which precision.
#pragma once
#include <string>

#include "core/shape.h"
#include "train/recipe/recipe.h"

namespace unfurl::train {

struct Placement {
  Device device = Device::cpu;
  DType dtype = DType::f32;  // of what operations compute; weights are f32 beside it
  AttentionKind attention = AttentionKind::own;
};

/// What a recipe's `device` and `precision` come to: a GPU where there is one, else the CPU; bf16 on a GPU, f32 on the
/// CPU. Throws UserError for a device that is not to be had, or bf16 on the CPU. With `planning`, the device named need
/// not be here. A program built for GPUs that falls back to the CPU warns once, and says why.
Placement placement_of(const Recipe& recipe, bool planning = false);
/// The same with the recipe's `attention`, which counts in training alone. Throws UserError where cuDNN cannot compute
/// it: it is on a Hopper GPU in bf16, causal, with heads of 64 or 128 elements. With `planning`, neither the library
/// nor the GPU need be here.
Placement training_placement_of(const Recipe& recipe, bool planning = false);
/// The same of a command's --device and --precision.
Placement placement_of(DeviceChoice device, Precision precision);

/// "the CPU in f32", "NVIDIA H200 in bf16", "NVIDIA H200 in bf16, attention by cuDNN", "CUDA executed on the CPU in
/// bf16".
std::string described(const Placement& placement);

}  // namespace unfurl::train
