// Shared memory: one arena a block, filled with NaNs when the block begins, a red zone behind every array.
#include <sys/mman.h>

#include <new>

#include "kernels/host/runner.h"

namespace unfurl::kernels::host {
namespace {

constexpr std::size_t kRedZone = 256;
constexpr unsigned char kRed = 0xA5, kPoison = 0xFF;

constexpr std::size_t round_up(std::size_t value, std::size_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

}  // namespace

// An array at `offset`: poisoned, with a red zone from its last byte on. Sanitizers see both.
unsigned char* Runner::place_array(std::size_t offset, std::size_t bytes) {
  const std::size_t end = round_up(offset + bytes, 16) + kRedZone;
  if (end > kArenaBytes) fault("more shared memory than the engine has");
  unsigned char* memory = arena + offset;
  allow(memory, end - offset);
  fill_bytes(memory, kPoison, bytes);
  fill_bytes(memory + bytes, kRed, end - offset - bytes);
  mark_uninitialised(memory, bytes);
  forbid(memory + bytes, end - offset - bytes);
  arena_used = end;
  return memory;
}

void Runner::begin_shared() {
  if (arena == nullptr || kThreadSanitizer) {  // a new mapping has no history
    const int fixed = arena == nullptr ? 0 : MAP_FIXED;
    const std::size_t bytes = arena == nullptr ? kArenaBytes : round_up(arena_used, 4096);
    void* memory = ::mmap(arena, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | fixed, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    arena = static_cast<unsigned char*>(memory);
  }
  arrays.clear();
  arrays.reserve(kArrays);
  forbid(arena, kArenaBytes);
  arrays.push_back({nullptr, place_array(0, launch->shared_bytes), launch->shared_bytes, "dynamic", launch->site});
}

void Runner::end_shared() {
  allow(arena, kArenaBytes);
  for (const SharedArray& array : arrays) {
    const unsigned char* end = array.memory + array.bytes;
    for (std::size_t i = 0; i < kRedZone; ++i) {
      if (end[i] == kRed) continue;
      throw_fault("kernel launched at %s: write %zu bytes past the end of shared array '%s' of %s [block (%u,%u,%u)]",
                  text(launch->site), i, array.name, text(array.site), block.index.x, block.index.y, block.index.z);
    }
  }
}

void* dynamic_shared(std::size_t bytes, CallSite site) {
  const SharedArray& array = Runner::of_this_thread().arrays.front();
  if (bytes > array.bytes) {
    fault("dynamic shared memory at %s needs %zu bytes, the launch gave %zu", text(site), bytes, array.bytes);
  }
  return array.memory;
}

void* static_shared(const void* tag, std::size_t bytes, std::size_t alignment, const char* name, CallSite site) {
  Runner& runner = Runner::of_this_thread();
  for (const SharedArray& array : runner.arrays) {
    if (array.tag == tag) return array.memory;
  }
  if (runner.arrays.size() == Runner::kArrays) fault("more than %zu shared arrays in a kernel", Runner::kArrays);
  unsigned char* memory = runner.place_array(round_up(runner.arena_used, std::max<std::size_t>(alignment, 16)), bytes);
  runner.arrays.push_back({tag, memory, bytes, name, site});
  std::size_t total = 0;
  for (const SharedArray& array : runner.arrays) total += round_up(array.bytes, 16);
  if (total > kMaxSharedBytes)
    fault("a block uses %zu bytes of shared memory, at most %zu exist", total, kMaxSharedBytes);
  return memory;
}

std::uint32_t shared_address(const void* pointer, CallSite site) {
  const Runner& runner = Runner::of_this_thread();
  const std::ptrdiff_t offset = static_cast<const unsigned char*>(pointer) - runner.arena;
  if (offset < 0 || static_cast<std::size_t>(offset) > runner.arena_used) {
    fault("shared_address at %s: the pointer is not into shared memory", text(site));
  }
  return static_cast<std::uint32_t>(offset);
}

unsigned char* shared_pointer(std::uint32_t address, std::size_t bytes, std::size_t alignment, const char* what,
                              CallSite site) {
  const Runner& runner = Runner::of_this_thread();
  if (address % alignment != 0) fault("%s at %s: shared address %u is misaligned", what, text(site), address);
  unsigned char* memory = runner.arena + address;
  for (const SharedArray& array : runner.arrays) {
    if (memory >= array.memory && memory + bytes <= array.memory + array.bytes) return memory;
  }
  fault("%s at %s: shared address %u is outside of every array", what, text(site), address);
}

}  // namespace unfurl::kernels::host
