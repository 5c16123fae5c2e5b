// Inside the engine: the block that an OS thread runs, its fibers, and what they wait for.
#pragma once
#include <algorithm>
#include <cstdarg>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "kernels/host/async.h"
#include "kernels/host/engine.h"
#include "kernels/host/fiber.h"
#include "kernels/host/sanitizers.h"
#include "kernels/host/trap.h"

namespace unfurl::kernels::host {

enum class State : std::uint8_t { fresh, runnable, waiting, done };

struct Warp;

/// One CUDA thread.
struct Fiber : ThreadView {
  void* saved = nullptr;  // stack pointer while it does not run
  int stack = -1;
  State state = State::fresh;
  Warp* warp = nullptr;
  Fiber* next = nullptr;  // in a barrier's list
  // While it waits: in what, since where, with which operands.
  const char* waits_in = nullptr;
  CallSite site{};
  const void* in = nullptr;
  void* out = nullptr;
  bool (*ready)(void*) = nullptr;
  void* ready_argument = nullptr;
  AsyncQueue* async = nullptr;
  void* sanitizer = nullptr;  // AddressSanitizer's fake stack, or ThreadSanitizer's fiber
};

/// A collective that some lanes have reached. Groups of one warp have disjoint masks.
struct Meeting {
  std::uint32_t mask, arrived;
  const Collective* what;
  CallSite site;
  unsigned number;  // of its cell for ThreadSanitizer
};

struct Warp {
  std::uint32_t present = 0, live = 0;  // lanes that exist; that have not returned
  Fiber* lanes[32] = {};
  Meeting meetings[32];
  int meeting_count = 0;
  unsigned next_number = 0;
  std::uint64_t order[32] = {};  // ThreadSanitizer's synchronisation cells
};

struct Barrier {
  unsigned arrived = 0, expected = 0;  // expected 0: every live thread
  Fiber* waiters = nullptr;            // last first
  CallSite site{};
  int votes = 0;
  int voted[2] = {};  // the result, by generation
  unsigned generation = 0;
  std::uint64_t order[2] = {};
};

struct SharedArray {
  const void* tag;
  unsigned char* memory;
  std::size_t bytes;
  const char* name;
  CallSite site;
};

/// The address space of a block's shared memory, and as much again before it, which nobody may touch.
inline constexpr std::size_t kArenaBytes = 1 << 20, kArenaGuard = 1 << 20;

/// What an OS thread needs to run blocks, kept from launch to launch.
class Runner {
 public:
  Runner() = default;
  ~Runner();
  Runner(const Runner&) = delete;
  Runner& operator=(const Runner&) = delete;

  /// The calling OS thread's, made at the first call.
  static Runner& make_for_this_thread();
  /// The same, in a kernel.
  static Runner& of_this_thread() { return *this_threads; }

  void run_block(const Launch& launch, std::size_t block);
  void end_grid();

  Fiber* self() const { return static_cast<Fiber*>(current_thread); }
  std::uint64_t random();
  void push(Fiber* fiber);
  void wake(Fiber* fiber) {
    fiber->state = State::runnable;
    push(fiber);
  }
  /// Wakes a barrier's waiters in the order in which they came.
  void wake_all(Fiber* last_first);
  /// The current fiber waits; another runs.
  void wait_in(const char* what, CallSite site);
  /// In orders other than the usual, a fiber that has just set others free lets them go first.
  void step_aside();
  [[noreturn]] void fail(const char* format, std::va_list arguments);
  void complete_barrier(Barrier& barrier);

  static constinit thread_local Runner* this_threads;

  // The block.
  BlockView block;
  const Launch* launch = nullptr;
  std::vector<Fiber> fibers;
  std::vector<Warp> warps;
  static constexpr unsigned kBarriers = 16;
  Barrier barriers[kBarriers];
  unsigned threads = 0, live = 0;
  std::vector<Fiber*> parked;
  Statistics statistics;

  // Shared memory: the dynamic part, then each static array, red zones behind all. Of the arena, only the pages that
  // the kernel uses can be accessed.
  unsigned char* arena = nullptr;
  std::size_t arena_used = 0, arena_open = 0;  // bytes
  // The launch for which it was opened.
  CallSite arena_site{};
  std::size_t arena_dynamic = 0;
  static constexpr std::size_t kArrays = 64;
  std::vector<SharedArray> arrays;
  unsigned char* place_array(std::size_t offset, std::size_t bytes);
  void begin_shared();
  void end_shared();  // looks at the red zones

  // An access to memory that is none (trap.h).
  bool trapped = false;
  const unsigned char* trap_address = nullptr;  // null: unknown, or the null pointer
  void* top_of_stack() const;                   // as a stack pointer at the entry of a function
  [[noreturn]] static void report_trap();

  // Copies in flight of the whole block, and mbarriers.
  BulkCopies bulk;

 private:
  friend void yield();
  static void enter_fiber();
  void prepare(const Launch& launch);
  Fiber* next_runnable();
  void wake_parked();
  void switch_to(Fiber* from, Fiber* to, bool for_good);
  void leave(Fiber* fiber);
  [[noreturn]] void deadlock();
  void begin_sanitizers();
  void end_sanitizers();
  void destroy_sanitizer_fibers();
  void open_arena(std::size_t end);
  static constexpr unsigned kSpareStacks = 128;

  SignalStack signal_stack_;
  Stacks stacks_;
  std::unique_ptr<AsyncQueue[]> queues_;
  std::vector<Fiber*> ready_;  // a ring
  std::size_t first_ = 0, last_ = 0, ring_ = 1;
  std::uint64_t random_state_ = 0;
  bool failed_ = false;
  char message_[Fault::kLength] = {};
  void* main_saved_ = nullptr;
  void* main_sanitizer_ = nullptr;
  const void* main_bottom_ = nullptr;
  std::size_t main_bytes_ = 0;
  std::vector<void*> sanitizer_fibers_;  // by stack
  std::uint64_t order_begin_ = 0, order_end_ = 0;
};

/// As fault(), where no kernel runs.
[[noreturn, gnu::format(printf, 1, 2)]] void throw_fault(const char* format, ...);

/// Faults where the thread returns with copies or products that it never waited for.
void check_async_done(const Fiber& fiber);

inline bool same(CallSite a, CallSite b) {
  return a.line == b.line && (a.file == b.file || std::strcmp(a.file, b.file) == 0);
}

/// "attention_forward.cu:17", for messages; valid until the eighth next call in this OS thread.
const char* text(CallSite site);

}  // namespace unfurl::kernels::host
