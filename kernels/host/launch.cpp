// Settings, statistics, and the blocks of a grid over OS threads.
#include <algorithm>
#include <atomic>
#include <charconv>
#include <cstdlib>
#include <limits>
#include <mutex>
#include <numeric>
#include <string>

#include "kernels/host/runner.h"
#include "kernels/thread_pool.h"

namespace unfurl::kernels::host {
namespace {

/// What the environment says; null: nothing.
const char* asked(const char* variable) {
  const char* value = std::getenv(variable);
  return value != nullptr && *value != '\0' ? value : nullptr;
}

[[noreturn]] void refuse(const char* variable, const std::string& allowed, const char* value) {
  throw std::invalid_argument(std::string("the environment variable ") + variable + " must be " + allowed + ", got \"" +
                              value + "\"");
}

template <class Choice, std::size_t kCount>
Choice choice(const char* variable, const char* const (&names)[kCount]) {
  const char* value = asked(variable);
  if (value == nullptr) return Choice{};
  for (std::size_t i = 0; i < kCount; ++i) {
    if (std::strcmp(value, names[i]) == 0) return static_cast<Choice>(i);
  }
  std::string all;
  for (const char* name : names) all += std::string(all.empty() ? "" : ", ") + name;
  refuse(variable, "one of " + all, value);
}

std::uint64_t number(const char* variable, std::uint64_t otherwise, std::uint64_t most) {
  const char* value = asked(variable);
  if (value == nullptr) return otherwise;
  const char* const end = value + std::strlen(value);
  std::uint64_t out = 0;
  const auto [stop, problem] = std::from_chars(value, end, out);
  if (problem != std::errc() || stop != end || out > most) {
    refuse(variable, "a number from 0 to " + std::to_string(most), value);
  }
  return out;
}

Settings& mutable_settings() {
  static Settings settings = settings_asked();
  return settings;
}

std::mutex statistics_mutex;
Statistics total;

void add(const Statistics& s) {
  const std::lock_guard lock(statistics_mutex);
  total.blocks += s.blocks;
  total.switches += s.switches;
  total.barriers += s.barriers;
  total.collectives += s.collectives;
  total.ldmatrix += s.ldmatrix;
  total.mma += s.mma;
  total.wgmma += s.wgmma;
  total.bulk_copies += s.bulk_copies;
  total.bank_conflicts += s.bank_conflicts;
}

/// A permutation of the blocks: reversed, or a random affine one.
class BlockOrder {
 public:
  explicit BlockOrder(std::size_t blocks) : blocks_(blocks) {
    const Settings& s = settings();
    if (s.order == Order::reversed) {
      factor_ = blocks - 1;  // that is -1
      offset_ = blocks - 1;
    } else if (s.order == Order::random) {
      factor_ = s.seed * 0x9e3779b97f4a7c15u % blocks;
      while (std::gcd(factor_, blocks) != 1) factor_ = (factor_ + 1) % blocks;
      offset_ = s.seed * 0xd1342543de82ef95u % blocks;
    }
  }
  std::size_t operator()(std::size_t i) const {
    return static_cast<std::size_t>((static_cast<unsigned __int128>(i) * factor_ + offset_) % blocks_);
  }

 private:
  std::size_t blocks_, factor_ = 1, offset_ = 0;
};

int worker_count() {
  if (kThreadSanitizer || kMemorySanitizer) return 1;
  return settings().workers > 0 ? settings().workers : ThreadPool::available_cores();
}

ThreadPool& pool() {
  static std::mutex mutex;
  static std::unique_ptr<ThreadPool> current;
  const std::lock_guard lock(mutex);
  if (current == nullptr || current->threads() != worker_count()) {
    current.reset();
    current = std::make_unique<ThreadPool>(worker_count(), false);
  }
  return *current;
}

}  // namespace

Settings settings_asked() {
  Settings out;
  out.order = choice<Order>("UNFURL_HOST_ORDER", {"in_order", "reversed", "random"});
  out.copies = choice<Copies>("UNFURL_HOST_COPIES", {"late", "random", "at_once"});
  out.streams = choice<Streams>("UNFURL_HOST_STREAMS", {"at_once", "late", "others_first"});
  out.seed = number("UNFURL_HOST_SEED", out.seed, std::numeric_limits<std::uint64_t>::max());
  out.workers = static_cast<int>(number("UNFURL_HOST_WORKERS", 0, 1024));
  return out;
}

const Settings& settings() { return mutable_settings(); }

SettingsScope::SettingsScope(const Settings& during) : before_(std::exchange(mutable_settings(), during)) {}
SettingsScope::~SettingsScope() { mutable_settings() = before_; }

Statistics statistics() {
  const std::lock_guard lock(statistics_mutex);
  Statistics out = total;
  mark_initialised(&out, sizeof out);
  return out;
}

void run_grid(const Launch& launch) {
  const Extent grid = launch.grid, block = launch.block;
  const std::size_t blocks = std::size_t{grid.x} * grid.y * grid.z;
  const std::size_t threads = std::size_t{block.x} * block.y * block.z;
  if (current_thread != nullptr) fault("a kernel launches another");
  if (blocks == 0 || threads == 0 || threads > 1024 || block.z > 64 || grid.x > 0x7fffffffu || grid.y > 65535 ||
      grid.z > 65535) {
    throw_fault("kernel launched at %s: no device takes a grid of %u x %u x %u blocks of %zu threads",
                text(launch.site), grid.x, grid.y, grid.z, threads);
  }
  if (const std::size_t limit = shared_limit(launch); launch.shared_bytes > limit) {
    throw_fault("kernel launched at %s: %zu bytes of shared memory, at most %zu exist", text(launch.site),
                launch.shared_bytes, limit);
  }
  {
    const std::lock_guard lock(statistics_mutex);
    ++total.launches;
  }
  const BlockOrder order(blocks);
  const auto run = [&](Index i) {
    Runner& runner = Runner::make_for_this_thread();
    runner.statistics = {};
    runner.run_block(launch, order(static_cast<std::size_t>(i)));
    add(runner.statistics);
  };
  // Waking the others takes longer than a few threads run.
  constexpr std::size_t kWorthSharing = 2048;
  if (blocks * threads < kWorthSharing || worker_count() == 1) {
    struct EndGrid {
      ~EndGrid() { Runner::make_for_this_thread().end_grid(); }
    } end;
    for (std::size_t i = 0; i < blocks; ++i) run(static_cast<Index>(i));
  } else {  // never with ThreadSanitizer
    pool().parallel_for(static_cast<Index>(blocks), run);
  }
}

}  // namespace unfurl::kernels::host
