// The scheduler: which fiber of a block runs, and how a block begins and ends.
#include "kernels/host/runner.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cstdio>
#include <cstdlib>
#include <exception>

namespace unfurl::kernels::host {

constinit thread_local ThreadView* current_thread = nullptr;

constinit thread_local Runner* Runner::this_threads = nullptr;

Runner& Runner::make_for_this_thread() {
  catch_traps();
  static thread_local Runner runner;
  this_threads = &runner;
  return runner;
}

Runner::~Runner() {
  if (arena != nullptr) ::munmap(arena - kArenaGuard, kArenaGuard + kArenaBytes);
  destroy_sanitizer_fibers();
}

std::uint64_t Runner::random() {  // SplitMix64
  std::uint64_t z = random_state_ += 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

void Runner::push(Fiber* fiber) {
  ready_[last_] = fiber;
  last_ = (last_ + 1) & (ring_ - 1);
}

void Runner::wake_parked() {
  for (std::size_t i = 0; i < parked.size();) {
    Fiber* fiber = parked[i];
    if (!fiber->ready(fiber->ready_argument)) {
      ++i;
      continue;
    }
    parked[i] = parked.back();
    parked.pop_back();
    wake(fiber);
  }
}

Fiber* Runner::next_runnable() {
  const Order order = settings().order;
  if (!bulk.in_flight.empty() && settings().copies == Copies::random && random() % 8 == 0) bulk.land_one(*this);
  if (!parked.empty() && order == Order::random && random() % 4 == 0) wake_parked();
  while (first_ == last_) {
    wake_parked();
    if (first_ != last_) break;
    if (bulk.in_flight.empty()) return nullptr;
    bulk.land_one(*this);  // as late as can be: nobody can run without it
  }
  if (order == Order::reversed) {
    last_ = (last_ + ring_ - 1) & (ring_ - 1);
    return ready_[last_];
  }
  if (order == Order::random) {
    const std::size_t count = (last_ + ring_ - first_) & (ring_ - 1);
    std::swap(ready_[first_], ready_[(first_ + random() % count) & (ring_ - 1)]);
  }
  Fiber* fiber = ready_[first_];
  first_ = (first_ + 1) & (ring_ - 1);
  return fiber;
}

void Runner::switch_to(Fiber* from, Fiber* to, [[maybe_unused]] bool for_good) {
  ++statistics.switches;
  if (to != nullptr && to->state == State::fresh) {
    to->stack = stacks_.take();
    to->saved = stacks_.entering(to->stack, &Runner::enter_fiber);
    if (kThreadSanitizer) to->sanitizer = sanitizer_fibers_[static_cast<std::size_t>(to->stack)];
  }
  current_thread = to;
#if defined(UNFURL_HOST_ASAN) || defined(UNFURL_HOST_MSAN)
  const void* bottom = to != nullptr ? stacks_.bottom(to->stack) : main_bottom_;
  const std::size_t bytes = to != nullptr ? Stacks::kBytes : main_bytes_;
#endif
#if defined(UNFURL_HOST_ASAN)
  void*& fake_stack = from != nullptr ? from->sanitizer : main_sanitizer_;
  __sanitizer_start_switch_fiber(for_good ? nullptr : &fake_stack, bottom, bytes);
#elif defined(UNFURL_HOST_MSAN)
  __msan_start_switch_fiber(bottom, bytes);
#elif defined(UNFURL_HOST_TSAN)
  constexpr unsigned kNoSynchronisation = 1;
  __tsan_switch_to_fiber(to != nullptr ? to->sanitizer : main_sanitizer_, kNoSynchronisation);
#endif
  unfurl_switch_stack(from != nullptr ? &from->saved : &main_saved_, to != nullptr ? to->saved : main_saved_);
#if defined(UNFURL_HOST_ASAN)
  __sanitizer_finish_switch_fiber(from != nullptr ? from->sanitizer : main_sanitizer_, nullptr, nullptr);
#elif defined(UNFURL_HOST_MSAN)
  __msan_finish_switch_fiber(nullptr, nullptr);
#endif
}

void Runner::enter_fiber() {
  Runner& runner = of_this_thread();
#if defined(UNFURL_HOST_ASAN) || defined(UNFURL_HOST_MSAN)
  const void* bottom = nullptr;
  std::size_t bytes = 0;
#if defined(UNFURL_HOST_ASAN)
  __sanitizer_finish_switch_fiber(nullptr, &bottom, &bytes);
#else
  __msan_finish_switch_fiber(&bottom, &bytes);
#endif
  if (runner.main_bottom_ == nullptr) {  // the first fiber comes from the OS thread's own stack
    runner.main_bottom_ = bottom;
    runner.main_bytes_ = bytes;
  }
#endif
  while (true) {
    Fiber* fiber = runner.self();
    fiber->state = State::runnable;
    happens_after(&runner.order_begin_);
    char thrown[256] = {};
    mark_parameters_initialised(1);
    try {
      runner.launch->body(runner.launch->kernel);
    } catch (const std::exception& exception) {
      std::snprintf(thrown, sizeof thrown, "%s", exception.what());
    }
    if (thrown[0] != 0) fault("the kernel threw: %s", thrown);
    runner.leave(fiber);
    // The next thread has not begun, so it takes this stack over without a switch.
  }
}

// Returns where the next fiber starts on this very stack.
void Runner::leave(Fiber* fiber) {
  happens_before(&order_end_);
  check_async_done(*fiber);
  fiber->state = State::done;
  --live;
  Warp& warp = *fiber->warp;
  warp.live &= ~(1u << fiber->lane);
  for (int i = 0; i < warp.meeting_count; ++i) {
    const Meeting& meeting = warp.meetings[i];
    if ((meeting.mask >> fiber->lane & 1) == 0) continue;
    fault("thread returns while %d lanes of its warp wait for it in %s at %s", std::popcount(meeting.arrived),
          meeting.what->name, text(meeting.site));
  }
  Barrier& all = barriers[0];
  if (all.arrived > 0 && all.expected == 0) {
    if (settings().strict) {
      fault("thread returns while %u others wait in __syncthreads at %s", all.arrived, text(all.site));
    }
    if (all.arrived >= live) complete_barrier(all);
  }
  if (live == 0 && !bulk.in_flight.empty()) {
    fault("the block ends while a bulk copy of %s is in flight", text(bulk.in_flight.front().site));
  }
  Fiber* next = next_runnable();
  if (next == nullptr && live > 0) deadlock();
  if (!kThreadSanitizer) {
    if (next != nullptr && next->state == State::fresh) {
      next->stack = fiber->stack;
      current_thread = next;
      return;
    }
    stacks_.give_back(fiber->stack);
  }
  switch_to(fiber, next, true);
  std::abort();
}

void Runner::wait_in(const char* what, CallSite site) {
  Fiber* fiber = self();
  fiber->state = State::waiting;
  fiber->waits_in = what;
  fiber->site = site;
  Fiber* next = next_runnable();
  if (next == nullptr) deadlock();
  if (next != fiber) switch_to(fiber, next, false);
  fiber->state = State::runnable;
}

void Runner::wake_all(Fiber* last_first) {
  Fiber* in_order = nullptr;
  while (last_first != nullptr) {
    Fiber* next = last_first->next;
    last_first->next = in_order;
    in_order = last_first;
    last_first = next;
  }
  while (in_order != nullptr) {
    Fiber* next = in_order->next;
    wake(in_order);
    in_order = next;
  }
}

void Runner::step_aside() {
  if (settings().order != Order::in_order) yield();
}

void yield() {
  Runner& runner = Runner::of_this_thread();
  Fiber* fiber = runner.self();
  if (settings().order == Order::reversed) {  // the end from which nobody is taken next
    runner.first_ = (runner.first_ + runner.ring_ - 1) & (runner.ring_ - 1);
    runner.ready_[runner.first_] = fiber;
  } else {
    runner.push(fiber);
  }
  Fiber* next = runner.next_runnable();
  if (next != fiber) runner.switch_to(fiber, next, false);
}

void park(const char* what, CallSite site, bool (*ready)(void*), void* argument) {
  if (ready(argument)) return;
  Runner& runner = Runner::of_this_thread();
  Fiber* fiber = runner.self();
  fiber->ready = ready;
  fiber->ready_argument = argument;
  runner.parked.push_back(fiber);
  runner.wait_in(what, site);
}

// Nothing is allocated on a fiber: its stack is abandoned without unwinding.
void Runner::fail(const char* format, std::va_list arguments) {
  const Fiber* fiber = self();
  int length = std::snprintf(message_, sizeof message_, "kernel launched at %s: ", text(launch->site));
  length += std::vsnprintf(message_ + length, sizeof message_ - static_cast<std::size_t>(length), format, arguments);
  length = std::min(length, static_cast<int>(sizeof message_) - 1);
  std::snprintf(message_ + length, sizeof message_ - static_cast<std::size_t>(length),
                " [block (%u,%u,%u) thread (%u,%u,%u)]", block.index.x, block.index.y, block.index.z, fiber->index.x,
                fiber->index.y, fiber->index.z);
  failed_ = true;
  happens_before(&order_end_);
  switch_to(self(), nullptr, true);
  std::abort();
}

void fault(const char* format, ...) {
  std::va_list arguments;
  va_start(arguments, format);
  Runner::of_this_thread().fail(format, arguments);
}

Fault::Fault(const char* text) : std::runtime_error("") {
  std::snprintf(text_, sizeof text_, "%s", text);
  mark_initialised(this, sizeof *this);
}

void throw_fault(const char* format, ...) {
  char text[Fault::kLength];
  std::va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  throw Fault(text);
}

void Runner::deadlock() {
  struct Group {
    const char* what;
    CallSite site;
    unsigned count;
  } groups[6];
  std::size_t used = 0;
  for (const Fiber& fiber : fibers) {
    if (&fiber == fibers.data() + threads) break;
    if (fiber.state != State::waiting) continue;
    std::size_t i = 0;
    while (i < used && (groups[i].site.line != fiber.site.line || std::strcmp(groups[i].what, fiber.waits_in) != 0))
      ++i;
    if (i == std::size(groups)) continue;
    if (i == used) groups[used++] = {fiber.waits_in, fiber.site, 0};
    ++groups[i].count;
  }
  char list[600] = {};
  std::size_t length = 0;
  for (std::size_t i = 0; i < used && length < sizeof list; ++i) {
    length += static_cast<std::size_t>(std::snprintf(list + length, sizeof list - length, "%s%u in %s at %s",
                                                     i == 0 ? "" : ", ", groups[i].count, groups[i].what,
                                                     text(groups[i].site)));
  }
  fault("deadlock: %u threads have returned, the others wait: %s", threads - live, list);
}

const char* base_name(const char* path) {
  const char* slash = std::strrchr(path, '/');
  return slash != nullptr ? slash + 1 : path;
}

const char* text(CallSite site) {
  static thread_local char texts[8][96];
  static thread_local unsigned next = 0;
  char* out = texts[next++ % 8];
  std::snprintf(out, sizeof texts[0], "%s:%d", base_name(site.file), site.line);
  return out;
}

void Runner::prepare(const Launch& l) {
  launch = &l;
  threads = l.block.x * l.block.y * l.block.z;
  if (fibers.size() < threads) {
    fibers = std::vector<Fiber>(threads);
    queues_.reset(new AsyncQueue[threads]);  // most of it stays untouched
    for (unsigned i = 0; i < threads; ++i) fibers[i].async = &queues_[i];
    parked.reserve(threads);
  }
  mark_initialised(fibers.data(), fibers.size() * sizeof(Fiber));  // kernels read their position there
  ring_ = std::bit_ceil(std::size_t{threads} + 1);
  if (ready_.size() < ring_) ready_.resize(ring_);
  stacks_.prepare(kThreadSanitizer ? threads + kSpareStacks : threads);
  warps.resize((threads + 31) / 32);
}

void Runner::run_block(const Launch& l, std::size_t number) {
  prepare(l);
  const unsigned x = l.grid.x, y = l.grid.y;
  block = {
      {static_cast<unsigned>(number % x), static_cast<unsigned>(number / x % y), static_cast<unsigned>(number / x / y)},
      l.block,
      l.grid};
  random_state_ = settings().seed * 0x9e3779b97f4a7c15u + number * 0xd1342543de82ef95u;
  begin_shared();
  for (Barrier& barrier : barriers) barrier = Barrier();
  for (Warp& warp : warps) warp = Warp();
  bulk.clear();
  parked.clear();
  trapped = false;
  first_ = last_ = 0;
  live = threads;
  unsigned linear = 0;
  for (unsigned k = 0; k < l.block.z; ++k) {
    for (unsigned j = 0; j < l.block.y; ++j) {
      for (unsigned i = 0; i < l.block.x; ++i, ++linear) {
        Fiber& fiber = fibers[linear];
        Warp& warp = warps[linear / 32];
        static_cast<ThreadView&>(fiber) = {{i, j, k}, linear % 32, linear, &block};
        fiber.state = State::fresh;
        fiber.stack = -1;
        fiber.warp = &warp;
        fiber.sanitizer = nullptr;
        fiber.async->clear();
        warp.present |= 1u << fiber.lane;
        warp.live |= 1u << fiber.lane;
        warp.lanes[fiber.lane] = &fiber;
        push(&fiber);
      }
    }
  }
  begin_sanitizers();
  switch_to(nullptr, next_runnable(), false);
  current_thread = nullptr;
  end_sanitizers();
  ++statistics.blocks;
  if (!std::exchange(failed_, false)) {
    end_shared();
    return;
  }
  allow(arena, kArenaBytes);
  end_grid();
  throw Fault(message_);
}

// A ThreadSanitizer fiber belongs to a stack for good, and threads get stacks at random: so the stack's history is its
// fiber's own, while a thread of one block and that of the same number in another are hardly ever the same fiber, which
// would order them.
void Runner::begin_sanitizers() {
#if defined(UNFURL_HOST_TSAN)
  std::vector<int>& free = stacks_.free();
  while (sanitizer_fibers_.size() < free.size()) sanitizer_fibers_.push_back(__tsan_create_fiber(0));
  for (std::size_t i = free.size(); i > 1; --i) std::swap(free[i - 1], free[random() % i]);
  main_sanitizer_ = __tsan_get_current_fiber();
  happens_before(&order_begin_);
#endif
}

void Runner::end_sanitizers() {
#if defined(UNFURL_HOST_ASAN)
  if (failed_) allow(stacks_.memory(), stacks_.bytes());  // frames that never returned
#elif defined(UNFURL_HOST_TSAN)
  constexpr unsigned kNoSynchronisation = 1;
  for (unsigned i = 0; failed_ && i < threads; ++i) {  // what an abandoned fiber did is over
    if (fibers[i].sanitizer == nullptr) continue;
    __tsan_switch_to_fiber(fibers[i].sanitizer, kNoSynchronisation);
    happens_before(&order_end_);
    __tsan_switch_to_fiber(main_sanitizer_, kNoSynchronisation);
  }
  if (failed_) destroy_sanitizer_fibers();  // their calls never returned
#endif
}

void Runner::destroy_sanitizer_fibers() {
#if defined(UNFURL_HOST_TSAN)
  for (void* fiber : sanitizer_fibers_) __tsan_destroy_fiber(fiber);
  sanitizer_fibers_.clear();
  stacks_.clear();  // nor may new fibers find their history
#endif
}

// Blocks are not ordered, so none of them follows what another did; only what comes after the grid does.
void Runner::end_grid() { happens_after(&order_end_); }

}  // namespace unfurl::kernels::host
