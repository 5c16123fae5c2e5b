// Matrix products of operations, and which algorithms a GPU's matrix library runs for them: chosen by timing once, kept
// with a checkpoint, so that a run that goes on has the bits of one that was not stopped.
#pragma once
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "kernels/matmul.h"
#if defined(UNFURL_CUDA)
#include "kernels/matmul_choices.h"
#endif

namespace unfurl {

/// Until its end, each product on a GPU of a shape that is new to it chooses its algorithm. What is computed meanwhile
/// is right but for products that add to their result: clear the gradients then. Nothing may be captured.
class ProductTuning {
 public:
  ProductTuning();
  ~ProductTuning();
  ProductTuning(const ProductTuning&) = delete;
  ProductTuning& operator=(const ProductTuning&) = delete;

  /// Whether one is open, and has not heard this yet.
  static bool wants(const std::vector<Index>& shape);
};

/// The library and its version, "" in a program without CUDA; {shape, algorithm} of each choice.
struct ProductChoices {
  std::string library;
  std::vector<std::pair<std::string, std::string>> choices;
};
ProductChoices product_choices();
/// Makes them the only ones. False, and nothing changes, where they are of another library.
bool set_product_choices(const ProductChoices& choices);

/// kernels::matmul, tuned where a ProductTuning is open.
template <class Queue, class T, class C>
void product(const Queue& queue, kernels::Matrix<C> c, kernels::Matrix<const T> a, bool transpose_a,
             kernels::Matrix<const T> b, bool transpose_b, Index m, Index n, Index k, bool accumulate) {
#if defined(UNFURL_CUDA)
  if constexpr (std::is_same_v<Queue, kernels::CudaQueue>) {
    if (ProductTuning::wants(
            {m, n, k, transpose_a, transpose_b, a.stride, b.stride, c.stride, accumulate, sizeof(T), sizeof(C)})) {
      kernels::choose_matmul(queue, c, a, transpose_a, b, transpose_b, m, n, k, accumulate);
    }
  }
#endif
  kernels::matmul(queue, c, a, transpose_a, b, transpose_b, m, n, k, accumulate);
}

}  // namespace unfurl
