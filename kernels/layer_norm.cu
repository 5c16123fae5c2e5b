// LayerNorm: kernels/norm.cuh with means and a bias.
#include "kernels/layer_norm.h"

#include "kernels/norm.cuh"

namespace unfurl::kernels {

template <class Queue, class T>
void layer_norm_forward(const Queue& queue, Matrix<T> y, Matrix<T> s, Accumulator<T>* mean, Accumulator<T>* rstd,
                        Matrix<const T> x, Matrix<const T> residual, const T* gain, const T* bias, Index rows,
                        Index cols, float eps) {
  norm_forward<T, true>(queue, {y, s, mean, rstd, x, residual, gain, bias, rows, static_cast<int>(cols), eps});
}

template <class Queue, class T>
void layer_norm_backward(const Queue& queue, Matrix<T> dx, Accumulator<T>* dgain, Accumulator<T>* dbias,
                         Matrix<const T> dy, Matrix<const T> ds, Matrix<const T> s, const T* gain,
                         const Accumulator<T>* mean, const Accumulator<T>* rstd, Index rows, Index cols) {
  norm_backward<T, true>(queue, {dx, dy, ds, s, gain, mean, rstd, nullptr, rows, static_cast<int>(cols)}, dgain, dbias);
}

#define UNFURL_INSTANTIATE(T)                                                                                        \
  template void layer_norm_forward(const DeviceQueue&, Matrix<T>, Matrix<T>, float*, float*, Matrix<const T>,        \
                                   Matrix<const T>, const T*, const T*, Index, Index, float);                        \
  template void layer_norm_backward(const DeviceQueue&, Matrix<T>, float*, float*, Matrix<const T>, Matrix<const T>, \
                                    Matrix<const T>, const T*, const float*, const float*, Index, Index);
UNFURL_INSTANTIATE(float)
UNFURL_INSTANTIATE(bf16)
#undef UNFURL_INSTANTIATE

}  // namespace unfurl::kernels
