// An access of a kernel to memory that is none: past the stack of its thread, far from every shared array, anywhere
// else. It becomes the kernel's fault, like any other, where a sanitizer does not report it.
#pragma once
#include <cstddef>

namespace unfurl::kernels::host {

/// A stack for signal handlers of the OS thread that makes it; a fiber's own may be what has run out.
class SignalStack {
 public:
  SignalStack();
  ~SignalStack();
  SignalStack(const SignalStack&) = delete;
  SignalStack& operator=(const SignalStack&) = delete;

 private:
  void* memory_ = nullptr;  // null: the thread has one already
};

/// From now on. Signals that do not come from a kernel are handled as they were before.
void catch_traps();

}  // namespace unfurl::kernels::host
