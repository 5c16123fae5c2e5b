// A weight matrix as decoding reads it: whole, or rounded to 8 bits.
#pragma once
#include <cstdint>
#include <vector>

#include "core/tensor.h"
#include "train/recipe/recipe.h"

namespace unfurl::train {

class DecodeWeight {
 public:
  DecodeWeight() = default;
  /// [out, in] of f32. As int8 it is rounded here and now, and later changes of `weight` do not show in short products.
  DecodeWeight(const Tensor& weight, DecodePrecision precision);

  /// y[rows, out] = x[rows, in] * weight^T. Up to kernels::kFewRows rows are multiplied by the rounded weight, more by
  /// the whole one: that is a prefill, which computes more than it reads.
  Tensor product(const Tensor& x) const;
  /// The same into rows [first, first + x.rows()) of y.
  void product_into(const Tensor& y, Index first, const Tensor& x) const;

 private:
  Tensor weight_;
  std::vector<std::int8_t> codes_;
  std::vector<float> scales_;
};

}  // namespace unfurl::train
