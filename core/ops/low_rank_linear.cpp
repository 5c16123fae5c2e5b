#include "core/ops/low_rank_linear.h"

#include "core/autograd.h"
#include "core/dispatch.h"
#include "core/product.h"
#include "kernels/elementwise.h"

namespace unfurl {
namespace {

constexpr const char* kName = "low_rank_linear";

/// x *= factor.
void scale_by(const Tensor& x, double factor) {
  dispatch(kName, x, [&]<class T>(const auto& queue) {
    kernels::scale(queue, x.matrix<T>(), x.matrix<const T>(), static_cast<kernels::Accumulator<T>>(factor), x.rows(),
                   x.cols());
  });
}

/// c = op(a) op(b), or what is added to c, of c's shape; `k` is what is summed over.
void multiply(const Tensor& c, const Tensor& a, bool transpose_a, const Tensor& b, bool transpose_b, Index k,
              bool accumulate) {
  dispatch(kName, a, [&]<class T>(const auto& queue) {
    product(queue, c.matrix<T>(), a.matrix<const T>(), transpose_a, b.matrix<const T>(), transpose_b, c.rows(),
            c.cols(), k, accumulate);
  });
}

/// sums += op(a)^T b, of the accumulator type.
void add_product(const Tensor& sums, const Tensor& a, const Tensor& b) {
  dispatch(kName, a, [&]<class T>(const auto& queue) {
    product(queue, sums.matrix<kernels::Accumulator<T>>(), a.matrix<const T>(), true, b.matrix<const T>(), false,
            sums.rows(), sums.cols(), a.rows(), true);
  });
}

}  // namespace

Tensor low_rank_linear(const Tensor& x, const Tensor& weight, const std::vector<LowRank>& parts, double scale) {
  require(weight.rank() == 2 && !weight.needs_gradient(), "{}: weight must be a frozen [out, in], got {}", kName,
          weight.shape());
  require(x.rank() == 2 && x.cols() == weight.cols() && x.dtype() == weight.dtype(),
          "{}: x must be {} [..., {}], got {}", kName, name_of(weight.dtype()), weight.cols(), x.shape());
  const Index rows = x.rows(), out = weight.rows(), in = weight.cols();
  std::vector<Tensor> inputs = {x};
  for (const LowRank& part : parts) {
    require(part.a.rank() == 2 && part.b.rank() == 2 && part.a.rows() == part.b.cols() && part.in >= 0 &&
                part.in + part.a.cols() <= in && part.out >= 0 && part.out + part.b.rows() <= out,
            "{}: a {} from {} and b {} from {} do not fit [{}, {}]", kName, part.a.shape(), part.in, part.b.shape(),
            part.out, out, in);
    inputs.push_back(part.a);
    inputs.push_back(part.b);
  }
  const Tensor y = Tensor::empty({rows, out}, x.dtype(), x.device());
  multiply(y, x, false, weight, true, in, false);
  std::vector<Tensor> kept;  // scale * x A^T of each part
  for (const LowRank& part : parts) {
    const Index rank = part.a.rows();
    const Tensor low = Tensor::empty({rows, rank}, x.dtype(), x.device());
    multiply(low, x.columns(part.in, part.in + part.a.cols()), false, part.a, true, part.a.cols(), false);
    scale_by(low, scale);
    multiply(y.columns(part.out, part.out + part.b.rows()), low, false, part.b, true, rank, true);
    kept.push_back(low);
  }
  if (!recording(inputs)) return y;
  record(kName, inputs, {y}, [=](Backward& backward) {
    const Tensor dy = backward.cotangent(0), dx = backward.gradient(0);
    if (dx.defined()) multiply(dx, dy, false, weight, false, out, false);
    for (std::size_t i = 0; i < parts.size(); ++i) {
      const LowRank& part = parts[i];
      const Index width = part.a.cols(), rank = part.a.rows();
      const Tensor dy_part = dy.columns(part.out, part.out + part.b.rows());
      const Tensor da = backward.accumulator(static_cast<int>(1 + 2 * i)),
                   db = backward.accumulator(static_cast<int>(2 + 2 * i));
      if (db.defined()) add_product(db, dy_part, kept[i]);
      const Tensor dlow = kept[i].empty_like();
      multiply(dlow, dy_part, false, part.b, false, part.b.rows(), false);
      scale_by(dlow, scale);
      if (da.defined()) add_product(da, dlow, x.columns(part.in, part.in + width));
      if (dx.defined()) multiply(dx.columns(part.in, part.in + width), dlow, false, part.a, false, rank, true);
    }
  });
  return y;
}

}  // namespace unfurl
