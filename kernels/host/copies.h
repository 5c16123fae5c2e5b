// cp.async as a thread of a kernel performs it. These lines are compiled, and instrumented, with the kernel.
#pragma once
#include <cstring>

#include "kernels/host/engine.h"

namespace unfurl::kernels::host {

struct AsyncCopy {
  void* to;
  const void* from;
  std::uint32_t bytes;  // read; the rest of 16 is filled with zeros
};

/// Books the copy; true: it lands at once.
bool begin_copy(const AsyncCopy& copy, CallSite site);
void commit_copies(CallSite site);
/// The next copy to land when all but the last `keep` groups are waited for; false: there is none left.
bool next_due_copy(unsigned keep, AsyncCopy& due);

inline void land(const AsyncCopy& copy) {
  unsigned char bytes[16] = {};
  if (copy.bytes > 0) std::memcpy(bytes, copy.from, copy.bytes);
  std::memcpy(copy.to, bytes, sizeof bytes);
}

inline void async_copy(std::uint32_t to, const void* from, std::uint32_t bytes, CallSite site) {
  const AsyncCopy copy{shared_pointer(to, 16, 16, "cp.async", site), from, bytes};
  if (bytes > 16) fault("cp.async of %u bytes", bytes);
  if (bytes > 0) check_alignment(from, 16, "cp.async from global memory");
  std::memset(copy.to, 0xff, 16);  // undefined until it has landed
  if (begin_copy(copy, site)) land(copy);
}

inline void wait_copies(unsigned keep) {
  for (AsyncCopy due{}; next_due_copy(keep, due);) land(due);
}

}  // namespace unfurl::kernels::host
