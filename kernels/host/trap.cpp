#include "kernels/host/trap.h"

#include "kernels/host/runner.h"

#if defined(UNFURL_HOST_ASAN) || defined(UNFURL_HOST_TSAN) || defined(UNFURL_HOST_MSAN)

namespace unfurl::kernels::host {

// Sanitizers report such an access themselves, and say more of it.
SignalStack::SignalStack() = default;
SignalStack::~SignalStack() = default;
void catch_traps() {}

}  // namespace unfurl::kernels::host

#else

#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <cstdint>
#include <new>

namespace unfurl::kernels::host {
namespace {

constexpr int kSignals[] = {SIGSEGV, SIGBUS};
constexpr std::size_t kSignalStackBytes = 64 << 10;
struct sigaction before[std::size(kSignals)];

// The handler does not report: it sends the thread to where that can be done, on the fiber's own stack, whose frames
// nobody returns to.
void on_signal(int signal, siginfo_t* info, void* context) {
  const bool an_access = info->si_code > 0;  // else somebody has sent the signal
  if (current_thread == nullptr || !an_access || Runner::of_this_thread().trapped) {
    for (std::size_t i = 0; i < std::size(kSignals); ++i) {
      if (kSignals[i] == signal) sigaction(signal, &before[i], nullptr);
    }
    if (!an_access) raise(signal);
    return;  // the access is repeated
  }
  Runner& runner = Runner::of_this_thread();
  runner.trapped = true;
  runner.trap_address = info->si_code == SI_KERNEL ? nullptr : static_cast<unsigned char*>(info->si_addr);
  auto& registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
  registers[REG_RSP] = reinterpret_cast<greg_t>(runner.top_of_stack());
  registers[REG_RIP] = reinterpret_cast<greg_t>(&Runner::report_trap);
}

bool install() {
  struct sigaction action {};
  action.sa_sigaction = on_signal;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigemptyset(&action.sa_mask);
  for (std::size_t i = 0; i < std::size(kSignals); ++i) sigaction(kSignals[i], &action, &before[i]);
  return true;
}

}  // namespace

SignalStack::SignalStack() {
  stack_t there{};
  sigaltstack(nullptr, &there);
  if ((there.ss_flags & SS_DISABLE) == 0) return;
  void* memory = ::mmap(nullptr, kSignalStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  memory_ = memory;
  const stack_t ours{.ss_sp = memory_, .ss_flags = 0, .ss_size = kSignalStackBytes};
  sigaltstack(&ours, nullptr);
}

SignalStack::~SignalStack() {
  if (memory_ == nullptr) return;
  const stack_t none{.ss_sp = nullptr, .ss_flags = SS_DISABLE, .ss_size = 0};
  sigaltstack(&none, nullptr);
  ::munmap(memory_, kSignalStackBytes);
}

void catch_traps() { [[maybe_unused]] static const bool installed = install(); }

}  // namespace unfurl::kernels::host

#endif

namespace unfurl::kernels::host {

void* Runner::top_of_stack() const {
  auto** top = reinterpret_cast<void**>(stacks_.bottom(self()->stack) + Stacks::kBytes);
  *--top = nullptr;  // where a return address would be
  return top;
}

void Runner::report_trap() {
  const Runner& runner = of_this_thread();
  const unsigned char* address = runner.trap_address;
  if (address == nullptr) fault("access through a null pointer, or to an address that cannot be");
  const unsigned char* bottom = runner.stacks_.bottom(runner.self()->stack);
  if (address < bottom && bottom - address <= static_cast<std::ptrdiff_t>(Stacks::kGuard)) {
    fault("stack overflow: a thread has %zu bytes here", Stacks::kBytes);
  }
  if (address >= runner.arena - kArenaGuard && address < runner.arena + kArenaBytes) {
    const bool no_dynamic = runner.arrays.front().bytes == 0 && runner.arrays.size() > 1;
    const SharedArray& first = runner.arrays[no_dynamic ? 1 : 0];
    if (address < first.memory) {
      fault("access %td bytes before the start of shared array '%s' of %s", first.memory - address, first.name,
            text(first.site));
    }
    const SharedArray& last = runner.arrays.back();
    fault("access %td bytes past the end of shared array '%s' of %s", address - (last.memory + last.bytes), last.name,
          text(last.site));
  }
  fault("access to address %p, which is no memory of this process", static_cast<const void*>(address));
}

}  // namespace unfurl::kernels::host
