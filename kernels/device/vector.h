// Sixteen bytes of elements at a time: eight bf16 or four float.
#pragma once
#include "kernels/device/ptx.h"

namespace unfurl::kernels::device::inline UNFURL_BACKEND {

UNFURL_DEVICE float as_float(float value) { return value; }
UNFURL_DEVICE float as_float(bf16 value) { return to_float(value); }

/// A float as an element of T.
template <class T>
UNFURL_DEVICE T as(float value);
template <>
UNFURL_DEVICE float as<float>(float value) {
  return value;
}
template <>
UNFURL_DEVICE bf16 as<bf16>(float value) {
  return {static_cast<std::uint16_t>(ptx::pack_bf16(value, 0.0f))};
}

/// Elements of T in a vector.
template <class T>
inline constexpr int kVectorSize = 16 / static_cast<int>(sizeof(T));

/// Raw elements, as they travel: unpack them where they are used, and many fit the registers.
template <class T>
struct Vector {
  uint4 bits;

  UNFURL_DEVICE void to_floats(float (&out)[kVectorSize<T>]) const {
    const unsigned words[4] = {bits.x, bits.y, bits.z, bits.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if constexpr (sizeof(T) == 4) {
        out[i] = __uint_as_float(words[i]);
      } else {
        out[2 * i] = __uint_as_float(words[i] << 16);
        out[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
      }
    }
  }

  UNFURL_DEVICE static Vector from_floats(const float (&in)[kVectorSize<T>]) {
    if constexpr (sizeof(T) == 4) {
      return {{__float_as_uint(in[0]), __float_as_uint(in[1]), __float_as_uint(in[2]), __float_as_uint(in[3])}};
    } else {
      return {{ptx::pack_bf16(in[0], in[1]), ptx::pack_bf16(in[2], in[3]), ptx::pack_bf16(in[4], in[5]),
               ptx::pack_bf16(in[6], in[7])}};
    }
  }
};

/// 16-byte aligned.
template <class T>
UNFURL_DEVICE Vector<T> load_vector(const T* from) {
#if !defined(__CUDACC__)
  host::check_alignment(from, 16, "vector load");
#endif
  return {*reinterpret_cast<const uint4*>(from)};
}

template <class T>
UNFURL_DEVICE void store_vector(T* to, const Vector<T>& vector) {
#if !defined(__CUDACC__)
  host::check_alignment(to, 16, "vector store");
#endif
  *reinterpret_cast<uint4*>(to) = vector.bits;
}

/// The first `count` elements (of at most a vector) of any alignment; zeros for the rest.
template <class T>
UNFURL_DEVICE void load_some(float (&out)[kVectorSize<T>], const T* from, int count) {
#pragma unroll
  for (int i = 0; i < kVectorSize<T>; ++i) out[i] = i < count ? as_float(from[i]) : 0.0f;
}

template <class T>
UNFURL_DEVICE void store_some(T* to, const float (&in)[kVectorSize<T>], int count) {
#pragma unroll
  for (int i = 0; i < kVectorSize<T>; ++i) {
    if (i < count) to[i] = as<T>(in[i]);
  }
}

/// Whether the rows of a matrix may be read as vectors. Null is fine.
template <class T>
bool vector_aligned(const T* data, Index stride) {
  return reinterpret_cast<std::uintptr_t>(data) % 16 == 0 && stride % kVectorSize<T> == 0;
}

}  // namespace unfurl::kernels::device::inline UNFURL_BACKEND
