#include "core/ops/dropout.h"

#include "core/autograd.h"
#include "core/dispatch.h"
#include "kernels/dropout.h"

namespace unfurl {
namespace {

/// drop(queue, to, from, rows, cols) for values and, of the cotangent, for the gradient.
template <class Drop>
Tensor dropped(const Tensor& x, double rate, const Drop& drop_on) {
  require(rate >= 0 && rate < 1, "dropout: rate must be in [0, 1), got {}", rate);
  require(x.rank() == 2 && x.contiguous(), "dropout: x must be a contiguous matrix, got {}", x.shape());
  if (rate == 0) return x;
  const Tensor y = x.empty_like();
  const auto drop = [drop_on](const Tensor& to, const Tensor& from) {
    dispatch("dropout", from, [&]<class T>(const auto& queue) {
      drop_on(queue, to.matrix<T>(), from.matrix<const T>(), from.rows(), from.cols());
    });
  };
  drop(y, x);
  record("dropout", {x}, {y}, [drop](Backward& backward) { drop(backward.gradient(0), backward.cotangent(0)); });
  return y;
}

}  // namespace

Tensor dropout(const Tensor& x, double rate, const PhiloxKey& key, std::uint64_t first_index) {
  require(first_index % 4 == 0, "dropout: first_index must be a multiple of 4, got {}", first_index);
  return dropped(x, rate, [=](const auto& queue, auto to, auto from, Index rows, Index cols) {
    kernels::dropout(queue, to, from, static_cast<float>(rate), key, first_index, rows, cols);
  });
}

Tensor dropout(const Tensor& x, double rate, const PhiloxKey& key, const Tensor& position) {
  require(position.dtype() == DType::i32 && position.shape() == Shape{4} && position.device() == x.device(),
          "dropout: position must be i32 [4] on {}, got {} {} on {}", name_of(x.device()), name_of(position.dtype()),
          position.shape(), name_of(position.device()));
  static_assert(sizeof(kernels::DropoutPosition) == 4 * sizeof(std::int32_t));
  return dropped(x, rate, [=](const auto& queue, auto to, auto from, Index rows, Index cols) {
    const auto* at = reinterpret_cast<const kernels::DropoutPosition*>(position.data<std::int32_t>());
    kernels::dropout_at(queue, to, from, static_cast<float>(rate), key, at, rows, cols);
  });
}

}  // namespace unfurl
