// RMSNorm: kernels/norm.cuh without means and bias.
#include "kernels/rms_norm.h"

#include "kernels/norm.cuh"

namespace unfurl::kernels {

template <class Queue, class T>
void rms_norm_forward(const Queue& queue, Matrix<T> y, Matrix<T> s, Accumulator<T>* rstd, Matrix<const T> x,
                      Matrix<const T> residual, const T* gain, Index rows, Index cols, float eps) {
  norm_forward<T, false>(queue, {y, s, nullptr, rstd, x, residual, gain, nullptr, rows, static_cast<int>(cols), eps});
}

template <class Queue, class T>
void rms_norm_backward(const Queue& queue, Matrix<T> dx, Accumulator<T>* dgain, Matrix<const T> dy, Matrix<const T> ds,
                       Matrix<const T> s, const T* gain, const Accumulator<T>* rstd, Index rows, Index cols) {
  norm_backward<T, false>(queue, {dx, dy, ds, s, gain, nullptr, rstd, nullptr, rows, static_cast<int>(cols)}, dgain,
                          nullptr);
}

#define UNFURL_INSTANTIATE(T)                                                                                        \
  template void rms_norm_forward(const DeviceQueue&, Matrix<T>, Matrix<T>, float*, Matrix<const T>, Matrix<const T>, \
                                 const T*, Index, Index, float);                                                     \
  template void rms_norm_backward(const DeviceQueue&, Matrix<T>, float*, Matrix<const T>, Matrix<const T>,           \
                                  Matrix<const T>, const T*, const float*, Index, Index);
UNFURL_INSTANTIATE(float)
UNFURL_INSTANTIATE(bf16)
#undef UNFURL_INSTANTIATE

}  // namespace unfurl::kernels
