#include "core/ops/dropout.h"

#include "core/autograd.h"
#include "core/dispatch.h"
#include "kernels/dropout.h"

namespace unfurl {

Tensor dropout(const Tensor& x, double rate, const PhiloxKey& key, std::uint64_t first_index) {
  require(rate >= 0 && rate < 1, "dropout: rate must be in [0, 1), got {}", rate);
  require(x.rank() == 2 && x.contiguous(), "dropout: x must be a contiguous matrix, got {}", x.shape());
  require(first_index % 4 == 0, "dropout: first_index must be a multiple of 4, got {}", first_index);
  if (rate == 0) return x;
  const Tensor y = x.empty_like();
  const auto drop = [=](const Tensor& to, const Tensor& from) {
    dispatch("dropout", from, [&]<class T>(const auto& queue) {
      kernels::dropout(queue, to.matrix<T>(), from.matrix<const T>(), static_cast<float>(rate), key, first_index,
                       from.rows(), from.cols());
    });
  };
  drop(y, x);
  record("dropout", {x}, {y}, [drop](Backward& backward) { drop(backward.gradient(0), backward.cotangent(0)); });
  return y;
}

}  // namespace unfurl
