// Executes CUDA kernels on the CPU: one fiber a CUDA thread, one OS thread a block. A test instrument: it checks
// indexing, synchronisation and numerics of the very source that nvcc compiles, and reports what a GPU would hide.
//
// This header is what the built-ins of a kernel (builtins.h, the PTX wrappers) and the tests see. Faults of a kernel
// end its launch with a host::Fault, whose text names the kernel's launch, the block, the thread and the call sites.
#pragma once
#include <cstddef>
#include <cstdint>
#include <stdexcept>

namespace unfurl::kernels::host {

/// A kernel did what CUDA leaves undefined, or will never end.
class Fault : public std::runtime_error {
 public:
  static constexpr std::size_t kLength = 1024;
  explicit Fault(const char* text);
  const char* what() const noexcept override { return text_; }

 private:
  char text_[kLength];  // here, where sanitizers can be told that it is initialised
};

/// In which order threads that could run, and blocks, do run. A correct kernel has the same bits under all.
enum class Order { in_order, reversed, random };

/// When an asynchronous copy lands, between its issue and the wait for it.
enum class Copies { late, random, at_once };

/// When the work of a stream is done: as it is queued, or at the last moment, when it is waited for; or so late only
/// that of the first queue of the process, and that of others at once.
enum class Streams { at_once, late, others_first };

struct Settings {
  Order order = Order::in_order;
  Copies copies = Copies::late;
  Streams streams = Streams::at_once;
  std::uint64_t seed = 1;  // of everything random
  int workers = 0;         // OS threads; 0: one a core. One with ThreadSanitizer or MemorySanitizer
  bool strict = true;      // a barrier after threads of the block have returned is a fault, though CUDA permits it
};

/// What the environment asks for: UNFURL_HOST_ORDER=in_order|reversed|random, UNFURL_HOST_COPIES=late|random|at_once,
/// UNFURL_HOST_STREAMS=at_once|late|others_first, UNFURL_HOST_SEED, UNFURL_HOST_WORKERS. Throws std::invalid_argument,
/// whose text is for the user, where one of them is none of these.
Settings settings_asked();

/// At first settings_asked().
const Settings& settings();

/// Other settings until the end of the scope. No kernel may be running at either end.
class SettingsScope {
 public:
  explicit SettingsScope(const Settings& during);
  ~SettingsScope();
  SettingsScope(const SettingsScope&) = delete;
  SettingsScope& operator=(const SettingsScope&) = delete;

 private:
  Settings before_;
};

/// Counts over all launches of the process.
struct Statistics {
  std::uint64_t launches = 0, blocks = 0, switches = 0, barriers = 0, collectives = 0;
  std::uint64_t ldmatrix = 0, mma = 0, wgmma = 0, bulk_copies = 0;
  /// Rows that ldmatrix found in a bank group that another row of the same 8x8 matrix uses: 0 with a good swizzle.
  std::uint64_t bank_conflicts = 0;
};
Statistics statistics();

struct Extent {
  unsigned x = 1, y = 1, z = 1;
  constexpr Extent(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
struct Position {
  unsigned x, y, z;
};

/// Where a kernel calls something: the default of a last parameter, `CallSite site = {}`, is the place of the call.
struct CallSite {
  const char* file;
  int line;
  constexpr CallSite(const char* f = __builtin_FILE(), int l = __builtin_LINE()) : file(f), line(l) {}
};

/// What the built-in variables of a kernel are read from.
struct BlockView {
  Position index;
  Extent size, grid;
};
struct ThreadView {
  Position index;
  unsigned lane, linear;
  const BlockView* block;
};
extern constinit thread_local ThreadView* current_thread;

inline constexpr std::size_t kMaxSharedBytes = 227 << 10;  // of a block, on sm_90

struct Launch {
  CallSite site;
  Extent grid, block;
  std::size_t shared_bytes;
  void (*body)(const void* kernel);  // what every thread runs
  const void* kernel;
  std::size_t shared_limit = kMaxSharedBytes;  // what the device has for a block
};

/// Bytes of a block, static and dynamic.
inline std::size_t shared_limit(const Launch& launch) {
  return launch.shared_limit < kMaxSharedBytes ? launch.shared_limit : kMaxSharedBytes;
}

/// Returns when every block has run; throws Fault. Blocks are spread over OS threads, none waits for another.
void run_grid(const Launch& launch);

/// Ends the launch with a Fault; `format` as for printf. Only in a kernel.
[[noreturn, gnu::format(printf, 1, 2)]] void fault(const char* format, ...);
/// The file's name without its folders.
const char* base_name(const char* path);

/// Lets other threads of the block run.
void yield();
/// Waits until ready(argument), which must become true by what other threads do.
void park(const char* what, CallSite site, bool (*ready)(void*), void* argument);

/// Barrier `id` of the block for `count` threads, 0: for all.
void barrier(unsigned id, unsigned count, CallSite site);
enum class Vote { count, all, any };
/// __syncthreads_count and its kin.
int barrier_vote(Vote vote, bool predicate, CallSite site);

/// What the lanes of a warp do together: every lane of the mask brings pointers to its operands, the last to come runs
/// `run` for all.
struct Exchange {
  std::uint32_t mask;
  const void* in[32];  // null for lanes that take no part
  void* out[32];
};
struct Collective {
  const char* name;
  void (*run)(const Exchange&);  // null: a mere meeting
  bool orders_memory = false;
};
void collective(const Collective& what, std::uint32_t mask, const void* in, void* out, CallSite site);

enum class Shuffle { index, up, down, exclusive_or };
/// By reference: what MemorySanitizer knows of a value gets lost when it goes into the engine and comes back.
void shuffle(Shuffle kind, std::uint32_t mask, const std::uint64_t& value, std::uint64_t& out, int argument, int width,
             CallSite site);
enum class Ballot { ballot, any, all };
/// The lanes of the mask whose predicate holds.
std::uint32_t ballot(Ballot kind, std::uint32_t mask, bool predicate, CallSite site);

/// The block's dynamic shared memory, which must have at least `bytes` bytes.
void* dynamic_shared(std::size_t bytes, CallSite site);
/// The block's static array of this tag; the first thread to come makes it.
void* static_shared(const void* tag, std::size_t bytes, std::size_t alignment, const char* name, CallSite site);
/// 32-bit shared address of a pointer into shared memory, and back; `bytes` bytes there must lie in one array.
std::uint32_t shared_address(const void* pointer, CallSite site);
unsigned char* shared_pointer(std::uint32_t address, std::size_t bytes, std::size_t alignment, const char* what,
                              CallSite site);

/// Faults unless the address is a multiple of `bytes`, as a vector access requires.
inline void check_alignment(const void* address, std::size_t bytes, const char* what) {
  if (reinterpret_cast<std::uintptr_t>(address) % bytes != 0) fault("%s at a misaligned address", what);
}

}  // namespace unfurl::kernels::host
