// The session that generates with a model where it is.
#pragma once
#include <memory>

#include "train/generate/language_model.h"
#include "train/model/decoder.h"

namespace unfurl::train {

/// A DecoderSession on the CPU, a DeviceSession on a device that runs CUDA kernels; `decoder` must outlive it.
/// `precision` is of a step's weights on the CPU.
std::unique_ptr<LanguageModel> open_session(const Decoder& decoder, DecodePrecision precision = DecodePrecision::f32);

}  // namespace unfurl::train
