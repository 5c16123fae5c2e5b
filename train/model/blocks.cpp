#include "train/model/blocks.h"

namespace unfurl::train {

Tensor run_blocks(const Decoder& decoder, Tensor x, const Project& project, const Attend& attend) {
  const ModelConfig& config = decoder.config();
  const Index a = decoder.attention_width(), kv = decoder.kv_width(), rows = x.rows();
  Tensor branch;  // what the next norm adds to x
  for (std::size_t layer = 0; layer < static_cast<std::size_t>(config.layers); ++layer) {
    const BlockWeights& block = decoder.block(static_cast<Index>(layer));
    auto [sum, normed] = decoder.norm(x, branch, block.norm_gain, block.norm_bias);
    const Tensor projected = project(layer, Projection::input, normed);
    if (config.block == BlockKind::parallel) {
      const Tensor joint = Tensor::empty({rows, a + config.ff_width}, x.dtype(), x.device());
      attend(layer, projected, joint.columns(0, a));
      decoder.activation(projected.columns(a + 2 * kv, projected.cols()), joint.columns(a, joint.cols()));
      branch = project(layer, Projection::output, joint);
      x = sum;
    } else {
      const Tensor y = project(layer, Projection::output, attend(layer, projected, {}));
      const auto [middle, ff_in] = decoder.norm(sum, y, block.ff_norm_gain, block.ff_norm_bias);
      const Tensor up = project(layer, Projection::ff_input, ff_in);
      branch = project(layer, Projection::ff_output, decoder.activation(up, {}));
      x = middle;
    }
  }
  return decoder.norm(x, branch, decoder.final_gain(), decoder.final_bias()).second;
}

}  // namespace unfurl::train
