#include "kernels/layer_norm.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/layer_norm.cpp"
#include "hwy/foreach_target.h"  // before any other Highway header
#include "kernels/norm-inl.h"

HWY_BEFORE_NAMESPACE();
namespace unfurl::kernels::HWY_NAMESPACE {
NormTable layer_norm_table() { return {norm_rows<float, true>(), norm_rows<double, true>()}; }
}  // namespace unfurl::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace unfurl::kernels {
namespace {

HWY_EXPORT(layer_norm_table);

template <class T>
NormRows<T> rows_of() {
  return HWY_DYNAMIC_DISPATCH(layer_norm_table)();
}

}  // namespace

template <class Queue, class T>
void layer_norm_forward(const Queue& queue, Matrix<T> y, Matrix<T> s, Accumulator<T>* mean, Accumulator<T>* rstd,
                        Matrix<const T> x, Matrix<const T> residual, const T* gain, const T* bias, Index rows,
                        Index cols, float eps) {
  norm_forward<T>(rows_of<T>(), queue, {y, s, mean, rstd, x, residual, gain, bias, cols, eps}, rows);
}

template <class Queue, class T>
void layer_norm_backward(const Queue& queue, Matrix<T> dx, Accumulator<T>* dgain, Accumulator<T>* dbias,
                         Matrix<const T> dy, Matrix<const T> ds, Matrix<const T> s, const T* gain,
                         const Accumulator<T>* mean, const Accumulator<T>* rstd, Index rows, Index cols) {
  norm_backward<T>(rows_of<T>(), queue, {dx, dy, ds, s, gain, mean, rstd, cols}, dgain, dbias, true, rows);
}

#define UNFURL_INSTANTIATE(T)                                                                                       \
  template void layer_norm_forward(const CpuQueue&, Matrix<T>, Matrix<T>, T*, T*, Matrix<const T>, Matrix<const T>, \
                                   const T*, const T*, Index, Index, float);                                        \
  template void layer_norm_backward(const CpuQueue&, Matrix<T>, T*, T*, Matrix<const T>, Matrix<const T>,           \
                                    Matrix<const T>, const T*, const T*, const T*, Index, Index);
UNFURL_INSTANTIATE(float)
UNFURL_INSTANTIATE(double)
#undef UNFURL_INSTANTIATE

}  // namespace unfurl::kernels
#endif  // HWY_ONCE
