#include "core/ops/head_cross_entropy.h"

#include <algorithm>

#include "core/autograd.h"
#include "core/copy.h"
#include "core/dispatch.h"
#include "core/ops/indices.h"
#include "core/product.h"
#include "kernels/cross_entropy.h"
#include "kernels/elementwise.h"
#include "kernels/sum.h"

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
  require_indices(kName, "targets", targets, hidden.size(0), weight.size(0));
  require(weights.shape() == rows && weights.dtype() == accumulator(hidden.dtype()) && weights.contiguous(),
          "{}: weights must be {} {}, got {} {}", kName, rows, name_of(accumulator(hidden.dtype())), weights.shape(),
          name_of(weights.dtype()));
  require(chunk_rows > 0, "{}: chunk_rows must be positive, got {}", kName, chunk_rows);
}

}  // namespace

Tensor head_cross_entropy(const Tensor& hidden, const Tensor& weight, const Tensor& targets, const Tensor& weights,
                          Index chunk_rows, Tensor* row_losses, bool root) {
  check_shapes(hidden, weight, targets, weights, chunk_rows);
  const Index rows = hidden.size(0), width = hidden.cols(), vocab = weight.size(0);
  // Chunks of nearly equal size: a last one of few rows would be slow.
  const Index chunks = std::max<Index>(1, (rows + chunk_rows - 1) / chunk_rows), step = (rows + chunks - 1) / chunks;
  const DType sums = accumulator(hidden.dtype());
  const Tensor loss = Tensor::empty({}, sums, hidden.device());
  const Tensor losses = Tensor::empty({rows}, sums, hidden.device());

  const bool gradients = recording({hidden, weight});
  const bool for_hidden = gradients && hidden.needs_gradient(), for_weight = gradients && weight.needs_gradient();
  const bool in_place = for_weight && root && weight.gradient().defined();
  const Tensor dhidden = for_hidden ? Tensor::empty({rows, width}, hidden.dtype(), hidden.device()) : Tensor();
  const Tensor dweight = in_place     ? weight.gradient()
                         : for_weight ? Tensor::empty({vocab, width}, sums, hidden.device())
                                      : Tensor();
  const Tensor logits = Tensor::empty({std::min(chunk_rows, rows), vocab}, hidden.dtype(), hidden.device());

  dispatch("head_cross_entropy", hidden, [&]<class T>(const auto& queue) {
    using Sum = kernels::Accumulator<T>;
    const auto h = hidden.matrix<const T>(), w = weight.matrix<const T>(), l = logits.matrix<const T>();
    const auto from = [](auto matrix, Index row) {
      matrix.data += row * matrix.stride;
      return matrix;
    };
    for (Index first = 0; first < rows; first += step) {
      const Index count = std::min(step, rows - first);
      {
        const TraceScope trace("head: logits");
        product(queue, logits.matrix<T>(), from(h, first), false, w, true, count, vocab, width, false);
      }
      {
        const TraceScope trace("head: cross_entropy");
        kernels::cross_entropy(queue, losses.data<Sum>() + first, logits.matrix<T>(),
                               targets.data<const std::int32_t>() + first, weights.data<const Sum>() + first, gradients,
                               count, vocab);
      }
      if (for_hidden) {
        const TraceScope trace("head: dhidden");
        product(queue, from(dhidden.matrix<T>(), first), l, false, w, false, count, width, vocab, false);
      }
      if (for_weight) {
        const TraceScope trace("head: dweight");
        product(queue, dweight.matrix<Sum>(), l, true, from(h, first), false, vocab, width, count,
                in_place || first > 0);
      }
    }
    kernels::sum(queue, loss.data<Sum>(), losses.data<const Sum>(), rows);
  });
  if (for_weight && !in_place && rows == 0) fill(dweight, 0);

  if (row_losses != nullptr) *row_losses = losses;
  record("head_cross_entropy", {hidden, weight}, {loss}, [=](Backward& backward) {
    const bool ones = backward.cotangent_is_ones(0);
    require(ones || !root, "head_cross_entropy: the loss is said to be the root, but has a cotangent");
    const double factor = ones ? 1 : backward.cotangent(0).item();
    if (dhidden.defined()) {
      if (!ones) {
        dispatch("head_cross_entropy: dhidden", dhidden, [&]<class T>(const auto& queue) {
          kernels::scale(queue, dhidden.matrix<T>(), dhidden.matrix<const T>(),
                         static_cast<kernels::Accumulator<T>>(factor), rows, width);
        });
      }
      backward.pass(0, dhidden);
    }
    const Tensor total = in_place ? Tensor() : backward.accumulator(1);
    if (!total.defined()) return;
    dispatch("head_cross_entropy: dweight", dweight, [&]<class T>(const auto& queue) {
      kernels::add_scaled(queue, total.data<T>(), dweight.data<const T>(), element<T>(factor), vocab * width);
    });
  });
  return loss;
}

}  // namespace unfurl
