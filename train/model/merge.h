// Between models that are trained by a method and the plain ones that generate.
#pragma once
#include <memory>

#include "train/model/decoder.h"

namespace unfurl::train {

/// True for the names of what a method trains beside the base model.
bool is_of_method(const std::string& tensor);

/// The configuration of merged(): without lora.
ModelConfig merged_config(ModelConfig config);

/// A model to generate with, of merged_config(), that has the weights of `from`: lora's products are added to the
/// matrices they are for, in f32 on the CPU. A soft prompt is copied as it is.
std::unique_ptr<Decoder> merged(const Decoder& from, DType dtype = DType::f32, Device device = Device::cpu);

}  // namespace unfurl::train
