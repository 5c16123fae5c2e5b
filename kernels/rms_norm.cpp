#include "kernels/rms_norm.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/rms_norm.cpp"
#include "hwy/foreach_target.h"  // before any other Highway header
#include "kernels/norm-inl.h"

HWY_BEFORE_NAMESPACE();
namespace unfurl::kernels::HWY_NAMESPACE {
NormTable rms_norm_table() { return {norm_rows<float, false>(), norm_rows<double, false>()}; }
}  // namespace unfurl::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace unfurl::kernels {
namespace {

HWY_EXPORT(rms_norm_table);

template <class T>
NormRows<T> rows_of() {
  return HWY_DYNAMIC_DISPATCH(rms_norm_table)();
}

}  // namespace

template <class Queue, class T>
void rms_norm_forward(const Queue& queue, Matrix<T> y, Matrix<T> s, Accumulator<T>* rstd, Matrix<const T> x,
                      Matrix<const T> residual, const T* gain, Index rows, Index cols, float eps) {
  norm_forward<T>(rows_of<T>(), queue, {y, s, nullptr, rstd, x, residual, gain, nullptr, cols, eps}, rows);
}

template <class Queue, class T>
void rms_norm_backward(const Queue& queue, Matrix<T> dx, Accumulator<T>* dgain, Matrix<const T> dy, Matrix<const T> ds,
                       Matrix<const T> s, const T* gain, const Accumulator<T>* rstd, Index rows, Index cols) {
  norm_backward<T>(rows_of<T>(), queue, {dx, dy, ds, s, gain, nullptr, rstd, cols}, dgain, nullptr, false, rows);
}

#define UNFURL_INSTANTIATE(T)                                                                                        \
  template void rms_norm_forward(const CpuQueue&, Matrix<T>, Matrix<T>, T*, Matrix<const T>, Matrix<const T>,        \
                                 const T*, Index, Index, float);                                                     \
  template void rms_norm_backward(const CpuQueue&, Matrix<T>, T*, Matrix<const T>, Matrix<const T>, Matrix<const T>, \
                                  const T*, const T*, Index, Index);
UNFURL_INSTANTIATE(float)
UNFURL_INSTANTIATE(double)
#undef UNFURL_INSTANTIATE

}  // namespace unfurl::kernels
#endif  // HWY_ONCE
