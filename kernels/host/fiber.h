// Fibers: a stack each, and a switch between two of them in a few nanoseconds.
#pragma once
#include <cstddef>
#include <vector>

namespace unfurl::kernels::host {

/// Saves the callee-saved registers on this stack and its pointer in *save, then continues where `to` was saved.
extern "C" void unfurl_switch_stack(void** save, void* to);

/// A pool of stacks, each above a guard page.
class Stacks {
 public:
  Stacks() = default;
  ~Stacks();
  Stacks(const Stacks&) = delete;
  Stacks& operator=(const Stacks&) = delete;

  /// Gives all memory back.
  void clear();

  /// At least `count` stacks, all free.
  void prepare(std::size_t count);
  std::vector<int>& free() { return free_; }

  int take() {
    const int stack = free_.back();
    free_.pop_back();
    return stack;
  }
  void give_back(int stack) { free_.push_back(stack); }

  unsigned char* bottom(int stack) const { return memory_ + static_cast<std::size_t>(stack) * kPitch + kGuard; }
  /// A saved stack pointer that, switched to, enters `entry` on this stack.
  void* entering(int stack, void (*entry)()) const;

  unsigned char* memory() const { return memory_; }
  std::size_t bytes() const { return count_ * kPitch; }

#if defined(UNFURL_HOST_ASAN) || defined(UNFURL_HOST_TSAN) || defined(UNFURL_HOST_MSAN)
  static constexpr std::size_t kBytes = 256 << 10;
#else
  static constexpr std::size_t kBytes = 64 << 10;
#endif
  static constexpr std::size_t kGuard = 4096;  // bytes that nobody may touch, below each

 private:
  static constexpr std::size_t kPitch = kBytes + kGuard;
  unsigned char* memory_ = nullptr;
  std::size_t count_ = 0;
  std::vector<int> free_;
};

}  // namespace unfurl::kernels::host
