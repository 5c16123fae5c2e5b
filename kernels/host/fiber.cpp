#include "kernels/host/fiber.h"

#include <sys/mman.h>

#include <new>

#if !defined(__x86_64__)
#error "host execution of CUDA kernels needs a stack switch for this processor"
#endif

// The return address is popped and jumped to: `ret` would be mispredicted at every switch, which costs four times as
// much. rbx, rbp and r12 to r15 are what a function must keep.
asm(R"(
.text
.globl unfurl_switch_stack
.type unfurl_switch_stack,@function
.align 16
unfurl_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp,(%rdi)
  movq %rsi,%rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  popq %rcx
  jmpq *%rcx
.size unfurl_switch_stack,.-unfurl_switch_stack
)");

namespace unfurl::kernels::host {

Stacks::~Stacks() { clear(); }

void Stacks::clear() {
  if (memory_ != nullptr) ::munmap(memory_, bytes());
  memory_ = nullptr;
  count_ = 0;
  free_.clear();
}

void Stacks::prepare(std::size_t count) {
  if (count > count_) {
    clear();
    void* memory =
        ::mmap(nullptr, count * kPitch, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    memory_ = static_cast<unsigned char*>(memory);
    count_ = count;
    for (std::size_t i = 0; i < count; ++i) ::mprotect(memory_ + i * kPitch, kGuard, PROT_NONE);
  }
  free_.clear();
  for (std::size_t i = count_; i > 0; --i) free_.push_back(static_cast<int>(i) - 1);
}

void* Stacks::entering(int stack, void (*entry)()) const {
  auto** top = reinterpret_cast<void**>(bottom(stack) + kBytes);
  *--top = nullptr;  // a function is entered with the stack 8 bytes off a multiple of 16
  *--top = reinterpret_cast<void*>(entry);
  for (int saved = 0; saved < 6; ++saved) *--top = nullptr;
  return top;
}

}  // namespace unfurl::kernels::host
