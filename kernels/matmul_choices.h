// Which algorithm cuBLASLt runs for a product on a GPU. Without a choice it is the library's first suggestion; a choice
// is made by timing its suggestions, and can be kept with a checkpoint: the bits of a resumed run depend on it.
//
// Choices are the process's, for all queues. Only a binary built with UNFURL_CUDA has these functions.
#pragma once
#include <string>
#include <vector>

#include "kernels/device/runtime.h"

namespace unfurl::kernels {

/// The product that matmul() would run, timed `repetitions` times with each of up to `candidates` algorithms; the
/// fastest (by its median) is the choice from now on. Overwrites c. Waits for the queue; never while a graph is
/// captured. The seconds that the choice took.
template <class T, class C>
double choose_matmul(const CudaQueue& queue, Matrix<C> c, Matrix<const T> a, bool transpose_a, Matrix<const T> b,
                     bool transpose_b, Index m, Index n, Index k, bool accumulate, int candidates = 8,
                     int repetitions = 5);

struct MatmulChoice {
  std::string shape;      // "8192x2048x2048 n t 2048 2048 2048 bf16 f32 overwrite 16", the last: bytes of alignment
  std::string algorithm;  // opaque, hexadecimal; good for one version of the library
};

/// All choices, sorted by shape.
std::vector<MatmulChoice> matmul_choices();
/// Replaces all choices. Throws std::runtime_error for an algorithm that is not one.
void set_matmul_choices(const std::vector<MatmulChoice>& choices);

/// The version of cuBLASLt, as it counts: 130002. Throws as matmul() does where the library cannot be loaded.
std::size_t cublaslt_version();

}  // namespace unfurl::kernels
