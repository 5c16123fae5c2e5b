#include "core/ops/rope.h"

#include "core/autograd.h"
#include "core/dispatch.h"
#include "core/ops/indices.h"
#include "kernels/rope.h"

namespace unfurl {

Tensor rope_table(Index max_position, Index head_dim, double base, DType dtype, Device device) {
  require(head_dim > 0 && head_dim % 2 == 0, "rope_table: head_dim must be even, got {}", head_dim);
  const Tensor table =
      Tensor::empty({max_position, head_dim}, accumulator(dtype), device == Device::meta ? Device::meta : Device::cpu);
  dispatch("rope_table", table, [&]<class T>(const auto& queue) {
    if constexpr (std::is_same_v<std::remove_cvref_t<decltype(queue)>, kernels::CpuQueue>) {
      kernels::rope_table(queue, table.data<T>(), max_position, head_dim, base);
    }
  });
  return table.to(device);
}

Tensor rope(const Tensor& x, const Tensor& positions, const Tensor& table, Index heads) {
  require(table.rank() == 2 && table.dtype() == accumulator(x.dtype()) && table.contiguous(),
          "rope: table must be a {} matrix, got {} {}", name_of(accumulator(x.dtype())), name_of(table.dtype()),
          table.shape());
  const Index head_dim = table.size(1);
  require(x.rank() == 2 && x.cols() == heads * head_dim, "rope: x must be [tokens, {}], got {}", heads * head_dim,
          x.shape());
  const Index tokens = x.rows();
  require_indices("rope", "positions", positions, tokens, table.size(0));
  const Tensor y = x.empty_like();
  const auto turn = [=](const Tensor& to, const Tensor& from, bool inverse) {
    dispatch("rope", from, [&]<class T>(const auto& queue) {
      kernels::rope(queue, to.matrix<T>(), from.matrix<const T>(), positions.data<const std::int32_t>(),
                    table.data<const kernels::Accumulator<T>>(), tokens, heads, head_dim, inverse);
    });
  };
  turn(y, x, false);
  record("rope", {x}, {y}, [turn](Backward& backward) { turn(backward.gradient(0), backward.cotangent(0), true); });
  return y;
}

}  // namespace unfurl
