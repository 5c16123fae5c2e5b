#include "train/model/decode_weights.h"

#include "core/dispatch.h"
#include "kernels/matmul.h"
#include "kernels/matmul_int8.h"

namespace unfurl::train {

DecodeWeight::DecodeWeight(const Tensor& weight, DecodePrecision precision) : weight_(weight) {
  if (precision == DecodePrecision::f32) return;
  const Index rows = weight.rows(), cols = weight.cols();
  codes_.resize(static_cast<std::size_t>(rows * cols));
  scales_.resize(static_cast<std::size_t>(rows * kernels::int8_blocks(cols)));
  kernels::quantize_int8(cpu_queue(), {codes_.data(), scales_.data()}, weight.matrix<float>(), rows, cols);
}

Tensor DecodeWeight::product(const Tensor& x) const {
  const Tensor y = Tensor::empty({x.rows(), weight_.rows()}, DType::f32);
  product_into(y, 0, x);
  return y;
}

void DecodeWeight::product_into(const Tensor& y, Index first, const Tensor& x) const {
  const TraceScope trace("product");
  const Index rows = x.rows(), out = weight_.rows(), in = weight_.cols();
  require(x.cols() == in && y.cols() == out && first + rows <= y.rows(), "product: {} by [{}, {}] into {}", x.shape(),
          out, in, y.shape());
  const kernels::Matrix<float> to{y.data<float>() + first * y.row_stride(), y.row_stride()};
  if (!codes_.empty() && rows > 0 && rows <= kernels::kFewRows) {
    kernels::matmul_int8(cpu_queue(), to, x.matrix<float>(), {codes_.data(), scales_.data()}, rows, out, in);
  } else {
    kernels::matmul<kernels::CpuQueue, float>(cpu_queue(), to, x.matrix<float>(), false, weight_.matrix<float>(), true,
                                              rows, out, in, false);
  }
}

}  // namespace unfurl::train
