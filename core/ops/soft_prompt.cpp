#include "core/ops/soft_prompt.h"

#include "core/autograd.h"
#include "core/dispatch.h"
#include "kernels/soft_prompt.h"

namespace unfurl {

Tensor soft_prompt(const Tensor& x, const Tensor& prompt, const Tensor& cu_seqlens) {
  require(x.rank() == 2 && !x.needs_gradient(), "soft_prompt: x must be a matrix that needs no gradient, got {}",
          x.shape());
  require(prompt.rank() == 2 && prompt.cols() == x.cols() && prompt.dtype() == x.dtype() && prompt.contiguous(),
          "soft_prompt: prompt must be {} [rows, {}], got {} {}", name_of(x.dtype()), x.cols(), name_of(prompt.dtype()),
          prompt.shape());
  require(cu_seqlens.dtype() == DType::i32 && cu_seqlens.rank() == 1 && cu_seqlens.numel() > 0,
          "soft_prompt: cu_seqlens must be i32 [documents + 1], got {}", cu_seqlens.shape());
  const Index documents = cu_seqlens.numel() - 1, rows = prompt.rows(), cols = x.cols();
  for (Index d = 0; d < documents && cu_seqlens.device() == Device::cpu; ++d) {
    const std::int32_t* const at = cu_seqlens.data<std::int32_t>() + d;
    require(at[0] >= 0 && at[0] <= at[1] && at[1] <= x.rows() && (at[0] == at[1] || at[1] - at[0] >= rows),
            "soft_prompt: document {} has the rows {} to {} of {}, it needs at least {}", d, at[0], at[1], x.rows(),
            rows);
  }
  dispatch("soft_prompt", x, [&]<class T>(const auto& queue) {
    kernels::soft_prompt_forward(queue, x.matrix<T>(), prompt.data<const T>(), cu_seqlens.data<const std::int32_t>(),
                                 documents, rows, cols);
  });
  record("soft_prompt", {prompt}, {x}, [=](Backward& backward) {
    const Tensor dy = backward.cotangent(0), dprompt = backward.accumulator(0);
    dispatch("soft_prompt", dy, [&]<class T>(const auto& queue) {
      kernels::soft_prompt_backward(queue, dprompt.data<kernels::Accumulator<T>>(), dy.matrix<const T>(),
                                    cu_seqlens.data<const std::int32_t>(), documents, rows, cols);
    });
  });
  return x;
}

}  // namespace unfurl
