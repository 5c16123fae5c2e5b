// On HostCudaQueue the CPU's product stands in for cuBLASLt: operands of bf16 are widened, sums are float, and an
// output of bf16 is rounded once.
#include <algorithm>
#include <type_traits>
#include <vector>

#include "kernels/device/runtime.h"
#include "kernels/elementwise.h"
#include "kernels/matmul.h"
#include "kernels/matmul_few_rows.h"
#include "kernels/queue.h"

namespace unfurl::kernels {
namespace {

struct Widened {
  std::vector<float> values;
  Matrix<const float> matrix;
};

template <class T>
Widened widened(const CpuQueue& queue, Matrix<const T> x, Index rows, Index cols) {
  if constexpr (std::is_same_v<T, float>) {
    return {{}, x};
  } else {
    Widened out{std::vector<float>(static_cast<std::size_t>(rows * cols)), {}};
    convert(queue, Matrix<float>{out.values.data(), cols}, x, rows, cols);
    out.matrix = {out.values.data(), cols};
    return out;
  }
}

template <class T, class C>
void product(const HostCudaQueue& queue, Matrix<C> c, Matrix<const T> a, bool transpose_a, Matrix<const T> b,
             bool transpose_b, Index m, Index n, Index k, bool accumulate) {
  if (m <= 0 || n <= 0) return;
  if (m <= kFewRows && k > 0 && !transpose_a && transpose_b) {
    return matmul_few_rows(queue, c, a, b, m, n, k, accumulate);
  }
  queue.submit([=] {
    const CpuQueue cpu(ThreadPool::global());
    const Widened left = widened(cpu, a, transpose_a ? k : m, transpose_a ? m : k);
    const Widened right = widened(cpu, b, transpose_b ? n : k, transpose_b ? k : n);
    const auto multiply = [&](Matrix<float> out) {
      matmul<CpuQueue, float>(cpu, out, left.matrix, transpose_a, right.matrix, transpose_b, m, n, k, accumulate);
    };
    if constexpr (std::is_same_v<C, float>) {
      multiply(c);
    } else {
      std::vector<float> sums(static_cast<std::size_t>(m * n));
      const Matrix<float> wide{sums.data(), n};
      if (accumulate) convert(cpu, wide, Matrix<const C>(c), m, n);
      multiply(wide);
      convert(cpu, c, Matrix<const float>(wide), m, n);
    }
  });
}

}  // namespace

// Specialisations, for a definition of the template would be taken for the CPU's products above as well.
#define UNFURL_SPECIALIZE(T, C)                                                                                \
  template <>                                                                                                  \
  void matmul(const HostCudaQueue& queue, Matrix<C> c, Matrix<const T> a, bool transpose_a, Matrix<const T> b, \
              bool transpose_b, Index m, Index n, Index k, bool accumulate) {                                  \
    product(queue, c, a, transpose_a, b, transpose_b, m, n, k, accumulate);                                    \
  }
UNFURL_SPECIALIZE(float, float)
UNFURL_SPECIALIZE(bf16, bf16)
UNFURL_SPECIALIZE(bf16, float)
#undef UNFURL_SPECIALIZE

}  // namespace unfurl::kernels
