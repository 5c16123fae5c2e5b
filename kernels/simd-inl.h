// Loops over vectors of the current instruction set. Included inside of foreach_target.h files, once for each target.
#if defined(UNFURL_KERNELS_SIMD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef UNFURL_KERNELS_SIMD_INL_H_
#undef UNFURL_KERNELS_SIMD_INL_H_
#else
#define UNFURL_KERNELS_SIMD_INL_H_
#endif

#include <cstring>

#include "hwy/highway.h"
#include "kernels/types.h"

HWY_BEFORE_NAMESPACE();
namespace unfurl::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <class T>
using Tag = hn::ScalableTag<T>;
template <class T>
using Vec = hn::Vec<Tag<T>>;

/// Loads and stores of whole vectors.
template <class T>
struct Whole {
  HWY_INLINE Vec<T> load(const T* p) const { return hn::LoadU(Tag<T>(), p); }
  HWY_INLINE void store(Vec<T> v, T* p) const { hn::StoreU(v, Tag<T>(), p); }
  HWY_INLINE Vec<T> keep(Vec<T> v) const { return v; }
};

/// Loads and stores of the first `count` lanes; the others load as zero. Touches no other memory.
template <class T>
struct Part {
  Index count;

  HWY_INLINE Vec<T> load(const T* p) const {
    alignas(64) T lanes[hn::MaxLanes(Tag<T>())] = {};
    std::memcpy(lanes, p, static_cast<std::size_t>(count) * sizeof(T));
    return hn::Load(Tag<T>(), lanes);
  }
  HWY_INLINE void store(Vec<T> v, T* p) const {
    alignas(64) T lanes[hn::MaxLanes(Tag<T>())];
    hn::Store(v, Tag<T>(), lanes);
    std::memcpy(p, lanes, static_cast<std::size_t>(count) * sizeof(T));
  }
  /// v with zero in the lanes from `count` on, for sums.
  HWY_INLINE Vec<T> keep(Vec<T> v) const {
    return hn::IfThenElseZero(hn::FirstN(Tag<T>(), static_cast<std::size_t>(count)), v);
  }
};

/// Calls body(io, i) for every vector of [0, count): i is the index of its first element, io loads and stores it, whole
/// or, at the end, in part. The body is a lambda marked HWY_ATTR.
template <class T, class Body>
HWY_INLINE void vectors(Index count, const Body& body) {
  const Index lanes = static_cast<Index>(hn::Lanes(Tag<T>()));
  Index i = 0;
  for (; i + lanes <= count; i += lanes) body(Whole<T>(), i);
  if (i < count) body(Part<T>{count - i}, i);
}

template <class T>
HWY_INLINE T sum_of_lanes(Vec<T> v) {
  return hn::GetLane(hn::SumOfLanes(Tag<T>(), v));
}

/// y[i] += x[i] for i in [0, count).
template <class T>
HWY_INLINE void accumulate(T* HWY_RESTRICT y, const T* HWY_RESTRICT x, Index count) {
  vectors<T>(count,
             [&](const auto& io, Index i) HWY_ATTR { io.store(hn::Add(io.load(y + i), io.load(x + i)), y + i); });
}

}  // namespace unfurl::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
