#include "kernels/embedding.h"

#include <cstring>

#include "kernels/blocks.h"
#include "kernels/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/embedding.cpp"
#include "hwy/foreach_target.h"  // before any other Highway header
#include "kernels/simd-inl.h"

#ifndef UNFURL_KERNELS_EMBEDDING_ONCE_
#define UNFURL_KERNELS_EMBEDDING_ONCE_
namespace unfurl::kernels {
namespace {

template <class T>
struct AddTo {
  void (*accumulate)(T* y, const T* x, Index count);
};
using AddToTable = Functions<AddTo<float>, AddTo<double>>;

}  // namespace
}  // namespace unfurl::kernels
#endif  // UNFURL_KERNELS_EMBEDDING_ONCE_

HWY_BEFORE_NAMESPACE();
namespace unfurl::kernels::HWY_NAMESPACE {
AddToTable add_to_table() { return {{&accumulate<float>}, {&accumulate<double>}}; }
}  // namespace unfurl::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace unfurl::kernels {

HWY_EXPORT(add_to_table);

template <class Queue, class T>
void embedding_forward(const Queue& queue, Matrix<T> y, const std::int32_t* ids, const T* table, Index tokens,
                       Index cols) {
  for_row_blocks(queue.pool(), tokens, task_rows(cols), [&](Index first, Index last) {
    for (Index t = first; t < last; ++t) {
      std::memcpy(y.row(t), table + ids[t] * cols, static_cast<std::size_t>(cols) * sizeof(T));
    }
  });
}

template <class Queue, class T>
void embedding_backward(const Queue& queue, Accumulator<T>* dtable, Matrix<const T> dy, const std::int32_t* ids,
                        const std::int32_t* order, Index tokens, Index cols) {
  const AddTo<T> add_to = HWY_DYNAMIC_DISPATCH(add_to_table)();
  // A task takes the ids that begin within its part of `order`, to their ends, over some columns: a frequent id is
  // shared by the tasks of its columns.
  constexpr Index kColumns = 128;
  const Index block = task_rows(kColumns), across = ceil_div(cols, kColumns);
  queue.pool().parallel_for(ceil_div(tokens, block) * across, [&](Index task) {
    const Index first = task / across * block, last = std::min(tokens, first + block);
    const Index col = task % across * kColumns, width = std::min(kColumns, cols - col);
    Index i = first;
    while (i > 0 && i < last && ids[order[i]] == ids[order[i - 1]]) ++i;
    if (i == last) return;
    for (; i < tokens && (i < last || ids[order[i]] == ids[order[i - 1]]); ++i) {
      add_to.accumulate(dtable + ids[order[i]] * cols + col, dy.row(order[i]) + col, width);
    }
  });
}

#define UNFURL_INSTANTIATE(T)                                                                                      \
  template void embedding_forward(const CpuQueue&, Matrix<T>, const std::int32_t*, const T*, Index, Index);        \
  template void embedding_backward(const CpuQueue&, T*, Matrix<const T>, const std::int32_t*, const std::int32_t*, \
                                   Index, Index);
UNFURL_INSTANTIATE(float)
UNFURL_INSTANTIATE(double)
#undef UNFURL_INSTANTIATE

}  // namespace unfurl::kernels
#endif  // HWY_ONCE
