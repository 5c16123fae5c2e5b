// What the files with SIMD kernels share outside of the per-target code. Such a file is compiled once for every
// instruction set; each time it fills a Functions table, and at run time the best table is taken:
//
//   template <class T> struct Add { void (*add)(T* y, const T* a, const T* b, Index count); };
//   using Table = Functions<Add<float>, Add<double>>;                        // once
//   Table table() { return {{&add<float>}, {&add<double>}}; }                // in each target's namespace
//   const Add<T> f = HWY_DYNAMIC_DISPATCH(table)();                          // once
#pragma once

namespace unfurl::kernels {

template <class... Parts>
struct Functions : Parts... {};

}  // namespace unfurl::kernels
