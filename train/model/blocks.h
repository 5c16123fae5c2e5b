// The blocks of a Decoder as generation runs them: without a tape, each session with products and attention of its own.
#pragma once
#include <functional>

#include "train/model/decoder.h"

namespace unfurl::train {

/// The products of a block. A parallel block has the first two.
enum class Projection { input, output, ff_input, ff_output };

/// x * weight^T for a weight of a layer.
using Project = std::function<Tensor(std::size_t layer, Projection which, const Tensor& x)>;
/// Attention of one layer: from the projection [q | k | v | ...] into `destination` (or a new tensor).
using Attend = std::function<Tensor(std::size_t layer, const Tensor& projected, const Tensor& destination)>;

/// From embedded tokens, [tokens, width], to the final norm's output.
Tensor run_blocks(const Decoder& decoder, Tensor x, const Project& project, const Attend& attend);

}  // namespace unfurl::train
