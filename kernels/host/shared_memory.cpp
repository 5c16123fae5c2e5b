// Shared memory: one arena a block, filled with NaNs when the block begins, a red zone behind every array. What lies
// behind the last one cannot be accessed.
#include <sys/mman.h>

#include <new>
#include <string>

#include "kernels/device/shared_limits.h"
#include "kernels/host/runner.h"

namespace unfurl::kernels::host {
namespace {

constexpr std::size_t kRedZone = 256, kPage = 4096;
constexpr unsigned char kPoison = 0xFF;
// Of red zones: read as float, double or bf16 it is a NaN, as a 32-bit or 64-bit integer an index far out of range.
constexpr std::uint16_t kRed = 0x7FFD;

constexpr std::size_t round_up(std::size_t value, std::size_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

/// A byte of kRed, which stands at even addresses.
unsigned char red_at(const unsigned char* memory) {
  return static_cast<unsigned char>(reinterpret_cast<std::uintptr_t>(memory) % 2 == 0 ? kRed : kRed >> 8);
}

void fill_red(unsigned char* begin, unsigned char* end) {
  if (begin != end && reinterpret_cast<std::uintptr_t>(begin) % 2 != 0) *begin++ = kRed >> 8;
  for (auto* at = reinterpret_cast<std::uint16_t*>(begin); at != reinterpret_cast<std::uint16_t*>(end); ++at)
    *at = kRed;
}

/// The first and the last byte that is not red; null where all are.
std::pair<const unsigned char*, const unsigned char*> changed(const unsigned char* begin, const unsigned char* end) {
  std::uint16_t difference = 0;  // without a branch, so that it is over soon
  const bool odd = reinterpret_cast<std::uintptr_t>(begin) % 2 != 0;
  for (auto* at = reinterpret_cast<const std::uint16_t*>(begin + (odd ? 1 : 0));
       at < reinterpret_cast<const std::uint16_t*>(end); ++at) {
    difference = static_cast<std::uint16_t>(difference | (*at ^ kRed));
  }
  if (difference == 0 && (!odd || *begin == red_at(begin))) return {};
  const auto touched = [](const unsigned char& byte) { return byte != red_at(&byte); };
  const unsigned char* first = std::find_if(begin, end, touched);
  const unsigned char* last = end - 1;
  while (!touched(*last)) --last;
  return {first, last};
}

}  // namespace

/// Up to `end`, in whole pages.
void Runner::open_arena(std::size_t end) {
  end = round_up(end, kPage);
  if (end > kArenaBytes) fault("more shared memory than the engine has");
  if (end <= arena_open) return;
  if (::mprotect(arena + arena_open, end - arena_open, PROT_READ | PROT_WRITE) != 0) throw std::bad_alloc();
  arena_open = end;
}

// An array at `offset`: poisoned, with a red zone from its last byte to the end of the page, of which the next array
// leaves at least kRedZone bytes. Sanitizers see both.
unsigned char* Runner::place_array(std::size_t offset, std::size_t bytes) {
  const std::size_t end = round_up(offset + bytes, 16) + kRedZone;
  open_arena(end);
  unsigned char *const memory = arena + offset, *const zone = memory + bytes, *const gap = arena + arena_used;
  unsigned char* const zone_end = arena + round_up(end, kPage);
  allow(gap, static_cast<std::size_t>(zone_end - gap));
  fill_red(gap, memory);  // what alignment leaves out
  fill_bytes(memory, kPoison, bytes);
  fill_red(zone, zone_end);
  mark_uninitialised(gap, static_cast<std::size_t>(zone_end - gap));
  forbid(gap, offset - arena_used);
  forbid(zone, static_cast<std::size_t>(zone_end - zone));
  arena_used = end;
  return memory;
}

void Runner::begin_shared() {
  const auto map = [](void* at, std::size_t bytes, int protection, int fixed) {
    void* memory = ::mmap(at, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | fixed, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    return static_cast<unsigned char*>(memory);
  };
  if (arena == nullptr) {
    arena = map(nullptr, kArenaGuard + kArenaBytes, PROT_NONE, 0) + kArenaGuard;
  } else if (kThreadSanitizer && arena_open > 0) {  // a new mapping has no history
    map(arena, arena_open, PROT_READ | PROT_WRITE, MAP_FIXED);
  }
  const std::size_t needed = round_up(launch->shared_bytes, 16) + kRedZone;
  if (arena_open > round_up(needed, kPage) &&
      (!same(launch->site, arena_site) || launch->shared_bytes != arena_dynamic)) {  // another kernel had more
    if (::mprotect(arena, arena_open, PROT_NONE) != 0) throw std::bad_alloc();
    arena_open = 0;
  }
  arena_site = launch->site;
  arena_dynamic = launch->shared_bytes;
  arena_used = 0;
  arrays.clear();
  arrays.reserve(kArrays);
  forbid(arena, kArenaBytes);
  arrays.push_back({nullptr, place_array(0, launch->shared_bytes), launch->shared_bytes, "dynamic", launch->site});
}

// A write between two arrays is told of the nearer one first.
void Runner::end_shared() {
  allow(arena, kArenaBytes);
  for (std::size_t i = 0; i < arrays.size(); ++i) {
    const SharedArray& array = arrays[i];
    const SharedArray* const next = i + 1 < arrays.size() ? &arrays[i + 1] : nullptr;
    const unsigned char* const end = array.memory + array.bytes;
    const unsigned char* const zone_end = next != nullptr ? next->memory : arena + round_up(arena_used, kPage);
    const auto [first, last] = changed(end, zone_end);
    if (first == nullptr) continue;
    const auto told = [](std::ptrdiff_t bytes, const char* side, const SharedArray& of) {
      return std::to_string(bytes) + side + of.name + "' of " + text(of.site);
    };
    std::string where = told(first - end, " bytes past the end of shared array '", array);
    if (next != nullptr) {
      const std::string ahead = told(next->memory - first, " bytes before the start of shared array '", *next);
      const bool nearer = next->memory - last <= first - end;
      where = array.bytes == 0 ? ahead : nearer ? ahead + ", " + where : where + ", " + ahead;
    }
    throw_fault("kernel launched at %s: write %s [block (%u,%u,%u)]", text(launch->site), where.c_str(), block.index.x,
                block.index.y, block.index.z);
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
  const bool opted_in = runner.launch->shared_bytes > kDynamicWithoutOptIn;
  if (const std::size_t most = opted_in ? shared_limit(*runner.launch) : kSharedWithoutOptIn; total > most) {
    fault("a block uses %zu bytes of shared memory, at most %zu %s", total, most,
          opted_in ? "exist" : "without more that is dynamic, for which launch() opts in");
  }
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
