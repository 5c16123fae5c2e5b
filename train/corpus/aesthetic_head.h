// Aesthetic scores of CLIP image embeddings, by the heads that LAION published.
//
//   linear: score(x) = weight . x/|x| + bias                                              tensors weight [1,n], bias
//   [1] mlp:    score(x) = W_k (... (W_1 (W_0 x/|x| + b_0) + b_1) ...) + b_k     tensors layers.I.weight [out,in],
//   layers.I.bias
//
// The MLP has no activations between its layers, so it is one linear map too, which is multiplied out, in double, when
// it is read.
#pragma once
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "kernels/types.h"

namespace unfurl::train {

class AestheticHead {
 public:
  /// From a .safetensors file; the kind is told by the tensors' names, and layers may be numbered with gaps
  /// ("layers.0", "layers.2"). Throws UserError naming the file where it holds neither, or sizes that do not fit one
  /// another.
  explicit AestheticHead(const std::filesystem::path& path);

  /// "linear", or "mlp of 5 layers".
  const std::string& kind() const { return kind_; }
  Index size() const { return static_cast<Index>(weight_.size()); }

  /// `unit` has size() elements and length 1. Summed in double.
  double score(std::span<const float> unit) const;

 private:
  std::string kind_;
  std::vector<double> weight_;
  double bias_ = 0;
};

}  // namespace unfurl::train
