#include "kernels/queue.h"

#include <new>

namespace unfurl::kernels {
namespace {
constexpr std::align_val_t kAlignment{64};
}

void CpuQueue::Free::operator()(void* memory) const { ::operator delete(memory, kAlignment); }

void* CpuQueue::scratch(std::size_t bytes) const {
  if (bytes > scratch_bytes_) {
    scratch_.reset();
    scratch_bytes_ = 0;
    scratch_.reset(::operator new(bytes, kAlignment));
    scratch_bytes_ = bytes;
  }
  return scratch_.get();
}

}  // namespace unfurl::kernels
