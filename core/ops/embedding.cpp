#include "core/ops/embedding.h"

#include "core/autograd.h"
#include "core/dispatch.h"
#include "core/ops/indices.h"
#include "kernels/embedding.h"

namespace unfurl {

Tensor embedding(const Tensor& ids, const Tensor& order, const Tensor& table) {
  require(ids.rank() == 1, "embedding: ids must be [tokens], got {}", ids.shape());
  require(table.rank() == 2 && table.contiguous(), "embedding: table must be a contiguous [vocab, cols], got {}",
          table.shape());
  const Index tokens = ids.numel(), cols = table.cols();
  require_indices("embedding", "ids", ids, tokens, table.size(0));
  require_indices("embedding", "order", order, tokens, tokens);
  const Tensor y = Tensor::empty({tokens, cols}, table.dtype(), table.device());
  dispatch("embedding", table, [&]<class T>(const auto& queue) {
    kernels::embedding_forward(queue, y.matrix<T>(), ids.data<const std::int32_t>(), table.data<const T>(), tokens,
                               cols);
  });
  record("embedding", {table}, {y}, [=](Backward& backward) {
    const Tensor dy = backward.cotangent(0), dtable = backward.accumulator(0);
    dispatch("embedding", dy, [&]<class T>(const auto& queue) {
      kernels::embedding_backward(queue, dtable.data<kernels::Accumulator<T>>(), dy.matrix<const T>(),
                                  ids.data<const std::int32_t>(), order.data<const std::int32_t>(), tokens, cols);
    });
  });
  return y;
}

}  // namespace unfurl
