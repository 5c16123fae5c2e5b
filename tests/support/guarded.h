// A buffer with guard words on both sides: a kernel that writes outside of its arrays fails its test even where no
// sanitizer runs.
#pragma once
#include <cstring>
#include <stdexcept>
#include <vector>

#include "kernels/types.h"

namespace unfurl::tests {

template <class T>
class Guarded {
 public:
  /// The elements start with every byte 0xff (NaN for floating point), so what a kernel leaves unwritten shows.
  explicit Guarded(Index count) : count_(static_cast<std::size_t>(count)), bytes_(count_ * sizeof(T) + 2 * kGuard) {
    std::memset(bytes_.data(), 0xff, bytes_.size());
    std::memset(bytes_.data(), 0xa5, kGuard);
    std::memset(bytes_.data() + kGuard + count_ * sizeof(T), 0xa5, kGuard);
  }
  explicit Guarded(const std::vector<T>& values) : Guarded(static_cast<Index>(values.size())) {
    if (!values.empty()) std::memcpy(data(), values.data(), values.size() * sizeof(T));
  }

  T* data() { return reinterpret_cast<T*>(bytes_.data() + kGuard); }
  const T* data() const { return reinterpret_cast<const T*>(bytes_.data() + kGuard); }
  Index size() const { return static_cast<Index>(count_); }
  T& operator[](Index i) { return data()[i]; }
  const T& operator[](Index i) const { return data()[i]; }
  std::vector<T> values() const { return std::vector<T>(data(), data() + count_); }

  /// True where no guard byte was overwritten.
  bool intact() const {
    for (std::size_t i = 0; i < kGuard; ++i) {
      if (bytes_[i] != 0xa5 || bytes_[kGuard + count_ * sizeof(T) + i] != 0xa5) return false;
    }
    return true;
  }

 private:
  static constexpr std::size_t kGuard = 64;
  std::size_t count_;
  std::vector<unsigned char> bytes_;
};

}  // namespace unfurl::tests
