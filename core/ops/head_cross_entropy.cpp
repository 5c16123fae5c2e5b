#include "core/ops/head_cross_entropy.h"

#include <algorithm>

#include "core/autograd.h"
#include "core/dispatch.h"
#include "kernels/cross_entropy.h"
#include "kernels/elementwise.h"
#include "kernels/matmul.h"

namespace unfurl {
namespace {

void check_shapes(const Tensor& hidden, const Tensor& weight, const Tensor& targets, const Tensor& weights,
                  Index chunk_rows) {
  constexpr const char* kName = "head_cross_entropy";
  require(hidden.rank() == 2, "{}: hidden must be [rows, width], got {}", kName, hidden.shape());
  require(weight.rank() == 2 && weight.cols() == hidden.cols() && weight.contiguous(),
          "{}: weight must be [vocab, {}], got {}", kName, hidden.cols(), weight.shape());
  require(weight.dtype() == hidden.dtype(), "{}: hidden is {}, weight is {}", kName, name_of(hidden.dtype()),
          name_of(weight.dtype()));
  const Shape rows = {hidden.size(0)};
  require(targets.shape() == rows && targets.dtype() == DType::i32 && targets.contiguous(),
          "{}: targets must be {} i32, got {} {}", kName, rows, targets.shape(), name_of(targets.dtype()));
  require(weights.shape() == rows && weights.dtype() == accumulator(hidden.dtype()) && weights.contiguous(),
          "{}: weights must be {} {}, got {} {}", kName, rows, name_of(accumulator(hidden.dtype())), weights.shape(),
          name_of(weights.dtype()));
  require(chunk_rows > 0, "{}: chunk_rows must be positive, got {}", kName, chunk_rows);
}

}  // namespace

Tensor head_cross_entropy(const Tensor& hidden, const Tensor& weight, const Tensor& targets, const Tensor& weights,
                          Index chunk_rows, Tensor* row_losses) {
  check_shapes(hidden, weight, targets, weights, chunk_rows);
  const Index rows = hidden.size(0), width = hidden.cols(), vocab = weight.size(0);
  // Chunks of nearly equal size: a last one of few rows would be slow.
  const Index chunks = std::max<Index>(1, (rows + chunk_rows - 1) / chunk_rows), step = (rows + chunks - 1) / chunks;
  const DType sums = accumulator(hidden.dtype());
  const Tensor loss = Tensor::empty({}, sums, hidden.device());
  const Tensor losses = Tensor::empty({rows}, sums, hidden.device());

  const bool gradients = recording({hidden, weight});
  const bool for_hidden = gradients && hidden.needs_gradient(), for_weight = gradients && weight.needs_gradient();
  const Tensor dhidden = for_hidden ? Tensor::empty({rows, width}, hidden.dtype(), hidden.device()) : Tensor();
  const Tensor dweight = for_weight ? Tensor::empty({vocab, width}, sums, hidden.device()) : Tensor();
  const Tensor logits = Tensor::empty({std::min(chunk_rows, rows), vocab}, hidden.dtype(), hidden.device());

  dispatch("head_cross_entropy", hidden, [&]<class T>(const auto& queue) {
    using Queue = std::remove_cvref_t<decltype(queue)>;
    using Sum = kernels::Accumulator<T>;
    const auto* target = targets.data<std::int32_t>();
    const auto bad = std::find_if(target, target + rows, [&](std::int32_t id) { return id < 0 || id >= vocab; });
    require(bad == target + rows, "head_cross_entropy: target {} of row {} is not in [0, {})",
            bad == target + rows ? 0 : *bad, bad - target, vocab);

    const kernels::Matrix<const T> h = hidden.matrix<T>(), w = weight.matrix<T>();
    const auto from = [](auto matrix, Index row) {
      matrix.data += row * matrix.stride;
      return matrix;
    };
    for (Index first = 0; first < rows; first += step) {
      const Index count = std::min(step, rows - first);
      {
        const TraceScope trace("head: logits");
        kernels::matmul<Queue, T>(queue, logits.matrix<T>(), from(h, first), false, w, true, count, vocab, width,
                                  false);
      }
      {
        const TraceScope trace("head: cross_entropy");
        kernels::cross_entropy<Queue, T>(queue, losses.data<Sum>() + first, logits.matrix<T>(), target + first,
                                         weights.data<Sum>() + first, gradients, count, vocab);
      }
      if (for_hidden) {
        const TraceScope trace("head: dhidden");
        kernels::matmul<Queue, T>(queue, from(dhidden.matrix<T>(), first), logits.matrix<T>(), false, w, false, count,
                                  width, vocab, false);
      }
      if (for_weight) {
        const TraceScope trace("head: dweight");
        kernels::matmul<Queue, T>(queue, dweight.matrix<T>(), logits.matrix<T>(), true, from(h, first), false, vocab,
                                  width, count, first > 0);
      }
    }
    if (for_weight && rows == 0) kernels::fill(queue, dweight.matrix<T>(), T(0), vocab, width);
    double sum = 0;
    for (Index r = 0; r < rows; ++r) sum += static_cast<double>(losses.data<Sum>()[r]);
    *loss.data<Sum>() = static_cast<Sum>(sum);
  });

  if (row_losses != nullptr) *row_losses = losses;
  record("head_cross_entropy", {hidden, weight}, {loss}, [=](Backward& backward) {
    const double factor = backward.cotangent(0).item();
    if (dhidden.defined()) {
      dispatch("head_cross_entropy: dhidden", dhidden, [&]<class T>(const auto& queue) {
        kernels::scale<std::remove_cvref_t<decltype(queue)>, T>(
            queue, dhidden.matrix<T>(), dhidden.matrix<T>(), static_cast<kernels::Accumulator<T>>(factor), rows, width);
      });
      backward.pass(0, dhidden);
    }
    if (const Tensor total = backward.accumulator(1); total.defined()) {
      dispatch("head_cross_entropy: dweight", dweight, [&]<class T>(const auto& queue) {
        kernels::add_scaled(queue, total.data<T>(), static_cast<const T*>(dweight.data<T>()), static_cast<T>(factor),
                            vocab * width);
      });
    }
  });
  return loss;
}

}  // namespace unfurl
