#include "core/copy.h"

#include "core/dispatch.h"
#include "kernels/elementwise.h"

namespace unfurl {
namespace {

/// The bytes of contiguous tensors of one type, one of which is on the CPU.
void copy_between(const Tensor& to, const Tensor& from) {
  const auto address = [](const Tensor& tensor) -> void* {
    switch (tensor.dtype()) {
      case DType::f64:
        return tensor.data<double>();
      case DType::bf16:
        return tensor.data<bf16>();
      case DType::i32:
        return tensor.data<std::int32_t>();
      default:
        return tensor.data<float>();
    }
  };
  on_device(runs_cuda(to.device()) ? to.device() : from.device(), [&](const auto& queue) {
    queue.copy(address(to), address(from), static_cast<std::size_t>(to.numel() * size_of(to.dtype())));
    queue.synchronize();
  });
}

}  // namespace

void fill(const Tensor& to, double value) {
  dispatch("fill", to, [&]<class T>(const auto& queue) {
    kernels::fill(queue, to.matrix<T>(), element<T>(value), to.rows(), to.cols());
  });
}

void copy_into(const Tensor& to, const Tensor& from) {
  require(to.shape() == from.shape(), "copy: {} does not fit {}", from.shape(), to.shape());
  if (to.numel() == 0 || to.device() == Device::meta || from.device() == Device::meta) return;
  if (to.device() == from.device()) {
    dispatch("copy", to, [&]<class To>(const auto& queue) {
      dispatch("copy", from, [&]<class From>(const auto& same) {
        using Queue = std::remove_cvref_t<decltype(queue)>;
        if constexpr (std::is_same_v<Queue, std::remove_cvref_t<decltype(same)>>) {
          kernels::convert<Queue, To, From>(queue, to.matrix<To>(), from.matrix<From>(), to.rows(), to.cols());
        }
      });
    });
    return;
  }
  require(to.dtype() == from.dtype(), "copy: from {} on {} to {} on {}", name_of(from.dtype()), name_of(from.device()),
          name_of(to.dtype()), name_of(to.device()));
  require(to.device() == Device::cpu || from.device() == Device::cpu, "copy: from {} to {}", name_of(from.device()),
          name_of(to.device()));
  if (!from.contiguous()) {
    const Tensor dense = from.empty_like();
    copy_into(dense, from);
    return copy_into(to, dense);
  }
  if (!to.contiguous()) {
    const Tensor dense = to.empty_like();
    copy_between(dense, from);
    return copy_into(to, dense);
  }
  copy_between(to, from);
}

void add_into(const Tensor& to, const Tensor& from) {
  Tensor term = from;
  if (to.dtype() != from.dtype()) {
    term = Tensor::empty(from.shape(), to.dtype(), to.device());
    copy_into(term, from);
  }
  dispatch("add", to, [&]<class T>(const auto& queue) {
    kernels::add<std::remove_cvref_t<decltype(queue)>, T>(queue, to.matrix<T>(), to.matrix<T>(), term.matrix<T>(),
                                                          to.rows(), to.cols());
  });
}

}  // namespace unfurl
