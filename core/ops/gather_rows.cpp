#include "core/ops/gather_rows.h"

#include "core/autograd.h"
#include "core/dispatch.h"
#include "core/ops/indices.h"
#include "kernels/elementwise.h"

namespace unfurl {

Tensor gather_rows(const Tensor& x, const Tensor& rows) {
  require(x.rank() == 2, "gather_rows: x must be a matrix, got {}", x.shape());
  require(rows.rank() == 1, "gather_rows: rows must be [count], got {}", rows.shape());
  const Index total = x.rows(), count = rows.numel(), cols = x.cols();
  require_indices("gather_rows", "rows", rows, count, total);
  for (Index i = 1; i < count && rows.device() == Device::cpu; ++i) {
    const std::int32_t* at = rows.data<std::int32_t>() + i;
    require(at[-1] < at[0], "gather_rows: rows must increase, got {} after {} at {}", at[0], at[-1], i);
  }
  const Tensor y = Tensor::empty({count, cols}, x.dtype(), x.device());
  dispatch("gather_rows", x, [&]<class T>(const auto& queue) {
    kernels::gather_rows(queue, y.matrix<T>(), x.matrix<const T>(), rows.data<const std::int32_t>(), count, cols);
  });
  record("gather_rows", {x}, {y}, [=](Backward& backward) {
    const Tensor dy = backward.cotangent(0), dx = backward.gradient(0);
    dispatch("gather_rows", dy, [&]<class T>(const auto& queue) {
      kernels::scatter_rows(queue, dx.matrix<T>(), dy.matrix<const T>(), rows.data<const std::int32_t>(), count, total,
                            cols);
    });
  });
  return y;
}

}  // namespace unfurl
