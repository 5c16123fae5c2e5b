#include "kernels/sum.h"

namespace unfurl::kernels {

template <class Queue, class A>
void sum(const Queue&, A* total, const A* x, Index count) {
  double all = 0;
  for (Index i = 0; i < count; ++i) all += static_cast<double>(x[i]);
  *total = static_cast<A>(all);
}

template void sum(const CpuQueue&, float*, const float*, Index);
template void sum(const CpuQueue&, double*, const double*, Index);

}  // namespace unfurl::kernels
