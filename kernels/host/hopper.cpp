#include "kernels/host/hopper.h"

#include <bit>

#include "kernels/host/runner.h"

namespace unfurl::kernels::host {
namespace {

constexpr std::uint64_t kMagic = 0x72656972726162;  // what an mbarrier's eight bytes hold

/// Where byte `address` of a tile lies: 128-byte swizzle.
constexpr std::uint32_t swizzled(std::uint32_t address) { return address ^ (address >> 7 & 7) << 4; }

MBarrier& find_barrier(std::uint32_t address, const char* what, CallSite site) {
  Runner& runner = Runner::of_this_thread();
  std::uint64_t magic = 0;
  std::memcpy(&magic, shared_pointer(address, 8, 8, what, site), sizeof magic);
  for (MBarrier& barrier : runner.bulk.barriers) {
    if (barrier.address != address) continue;
    if (magic != kMagic) fault("%s at %s: the mbarrier of %s was overwritten", what, text(site), text(barrier.site));
    return barrier;
  }
  fault("%s at %s: the mbarrier is not initialised", what, text(site));
}

}  // namespace

void barrier_init(std::uint32_t address, std::uint32_t arrivals, CallSite site) {
  BulkCopies& bulk = Runner::of_this_thread().bulk;
  unsigned char* memory = shared_pointer(address, 8, 8, "mbarrier.init", site);
  if (arrivals == 0 || arrivals >= 1u << 20) fault("mbarrier.init at %s for %u arrivals", text(site), arrivals);
  std::memcpy(memory, &kMagic, sizeof kMagic);
  mark_initialised(memory, sizeof kMagic);
  const MBarrier fresh{address, arrivals, arrivals, 0, 0, site, {}};
  for (MBarrier& barrier : bulk.barriers) {
    if (barrier.address != address) continue;
    barrier = fresh;
    return;
  }
  if (bulk.barriers.size() == BulkCopies::kBarriers) fault("more than %zu mbarriers in a block", BulkCopies::kBarriers);
  bulk.barriers.push_back(fresh);
}

void barrier_arrive(std::uint32_t address, std::uint32_t bytes, CallSite site) {
  MBarrier& barrier = find_barrier(address, "mbarrier.arrive", site);
  if (barrier.pending == 0) {
    fault("mbarrier.arrive at %s: the phase has all its %u arrivals", text(site), barrier.arrivals);
  }
  happens_before(&barrier.order[barrier.phase & 1]);
  barrier.bytes += bytes;
  --barrier.pending;
  barrier.end_phase_if_complete();
}

void barrier_wait(std::uint32_t address, std::uint32_t parity, CallSite site) {
  struct Waited {
    MBarrier* barrier;
    std::uint32_t parity;
  } waited{&find_barrier(address, "mbarrier.wait", site), parity};
  park(
      "mbarrier.wait", site,
      [](void* argument) {
        const auto* w = static_cast<const Waited*>(argument);
        return (w->barrier->phase & 1) != w->parity;
      },
      &waited);
  happens_after(&waited.barrier->order[parity & 1]);
}

void load_tile(std::uint32_t to, const TileMap& map, int row, int column, std::uint32_t barrier, CallSite site) {
  constexpr const char* kWhat = "cp.async.bulk.tensor";
  Runner& runner = Runner::of_this_thread();
  BulkCopy copy{to, {}, row, column, barrier, site};
  std::memcpy(&copy.map, map.words, sizeof copy.map);
  MBarrier& waits = find_barrier(barrier, kWhat, site);
  unsigned char* memory = shared_pointer(to, copy.bytes(), 1024, kWhat, site);
  if (runner.bulk.in_flight.size() == BulkCopies::kInFlight) {
    fault("%s at %s: more than %zu copies in flight", kWhat, text(site), BulkCopies::kInFlight);
  }
  for (std::int64_t r = std::max<std::int64_t>(row, 0);
       r < std::min(copy.map.rows, row + std::int64_t{copy.map.tile_rows}); ++r) {
    const std::int64_t first = std::max<std::int64_t>(column, 0);
    const std::int64_t end = std::min(copy.map.cols, column + std::int64_t{kTileColumns});
    if (first >= end) break;
    const unsigned char* from = copy.map.data + r * copy.map.stride_bytes + first * 2;
    const auto bytes = static_cast<std::size_t>(end - first) * 2;
    if (!accessible(from, bytes)) fault("%s at %s reads memory that is not there", kWhat, text(site));
    note_read(from, bytes);
  }
  note_write(memory, copy.bytes());
  fill_bytes(memory, 0xff, copy.bytes());
  mark_uninitialised(memory, copy.bytes());
  happens_before(&waits.order[waits.phase & 1]);
  ++runner.statistics.bulk_copies;
  runner.bulk.in_flight.push_back(copy);
  if (settings().copies == Copies::at_once) runner.bulk.land_one(runner);
}

void BulkCopies::land_one(Runner& runner) {
  const std::size_t which = settings().copies == Copies::random ? runner.random() % in_flight.size() : 0;
  const BulkCopy copy = in_flight[which];
  for (std::size_t i = which; i + 1 < in_flight.size(); ++i) in_flight[i] = in_flight[i + 1];
  in_flight.pop_back();
  const TileMapFields& map = copy.map;
  for (std::int32_t r = 0; r < map.tile_rows; ++r) {
    for (std::int32_t c = 0; c < kTileColumns; ++c) {
      const std::int64_t row = copy.row + r, column = copy.column + c;
      unsigned char* to = runner.arena + swizzled(copy.to + static_cast<std::uint32_t>(r * kTileColumns + c) * 2);
      if (row >= 0 && row < map.rows && column >= 0 && column < map.cols) {
        const unsigned char* from = map.data + row * map.stride_bytes + column * 2;
        std::memcpy(to, from, 2);
        pass_on(to, 2, from, 2);
      } else {
        std::memset(to, 0, 2);
        mark_initialised(to, 2);
      }
    }
  }
  for (MBarrier& barrier : barriers) {
    if (barrier.address != copy.barrier) continue;
    barrier.bytes -= static_cast<std::int64_t>(copy.bytes());
    barrier.end_phase_if_complete();
  }
}

void product(float* d, int columns, std::uint64_t a, std::uint64_t b, bool add, CallSite site) {
  AsyncQueue& queue = *Runner::of_this_thread().self()->async;
  if (queue.product_count == AsyncQueue::kProducts) {
    fault("wgmma at %s: more than %u products in flight", text(site), AsyncQueue::kProducts);
  }
  bool first = true;
  for (unsigned i = 0; i < queue.product_count; ++i) first = first && queue.products[i].d != d;
  AsyncQueue::Product& product = queue.products[queue.product_count++];
  product.d = d;
  product.columns = columns;
  product.a = a;
  product.b = b;
  product.add = add;
  product.first = first;
  product.site = site;
  if (!first) return;
  const std::size_t bytes = static_cast<std::size_t>(columns) / 2 * sizeof(float);
  copy_bytes(product.before, d, bytes);
  fill_bytes(d, 0xff, bytes);
  mark_uninitialised(d, bytes);
}

void products_commit(CallSite site) {
  AsyncQueue& queue = *Runner::of_this_thread().self()->async;
  if (queue.product_groups == AsyncQueue::kGroups) {
    fault("wgmma.commit_group at %s: more than %u groups in flight", text(site), AsyncQueue::kGroups);
  }
  queue.product_group_ends[queue.product_groups++] = queue.product_count;
}

namespace {

/// Rows of 16 elements of a bf16 operand, as floats, and whether all were initialised.
bool read_operand(std::uint64_t operand, int first_row, int rows, float (*out)[16]) {
  Runner& runner = Runner::of_this_thread();
  const auto base = static_cast<std::uint32_t>(operand & 0x3fff) << 4;
  const auto group = static_cast<std::uint32_t>(operand >> 32 & 0x3fff) << 4;
  if (operand >> 62 != 1) fault("wgmma: an operand that is not of 128-byte swizzle");
  bool known = true;
  for (int r = 0; r < rows; ++r) {
    const int row = first_row + r;
    for (int k = 0; k < 16; ++k) {
      const std::uint32_t address = swizzled(base + static_cast<std::uint32_t>(row / 8) * group +
                                             static_cast<std::uint32_t>(row % 8 * 128 + k * 2));
      if (address + 2 > runner.arena_used) fault("wgmma: an operand outside of shared memory");
      std::uint16_t bits = 0;
      std::memcpy(&bits, runner.arena + address, 2);
      known = known && initialised(runner.arena + address, 2);
      out[r][k] = std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
    }
  }
  return known;
}

void run_product(const Exchange& exchange) {
  Runner& runner = Runner::of_this_thread();
  ++runner.statistics.wgmma;
  const auto* one = static_cast<const AsyncQueue::Product*>(exchange.in[0]);
  for (int lane = 1; lane < 32; ++lane) {
    const auto* other = static_cast<const AsyncQueue::Product*>(exchange.in[lane]);
    if (other->a != one->a || other->b != one->b || other->add != one->add) {
      fault("wgmma at %s: the lanes of a warp name different operands", text(one->site));
    }
  }
  static thread_local float a[16][16], b[128][16];
  const int warp = static_cast<int>(runner.self()->linear / 32 % 4);
  const bool known_a = read_operand(one->a, 16 * warp, 16, a), known_b = read_operand(one->b, 0, one->columns, b);
  for (int lane = 0; lane < 32; ++lane) {
    const auto* product = static_cast<const AsyncQueue::Product*>(exchange.in[lane]);
    const std::size_t bytes = static_cast<std::size_t>(product->columns) / 2 * sizeof(float);
    float* d = product->d;
    if (product->first) {
      copy_bytes(d, product->before, bytes);
    }
    const bool known = known_a && known_b && (!product->add || initialised(d, bytes));
    for (int i = 0; i < product->columns / 2; ++i) {
      const int row = lane / 4 + i / 2 % 2 * 8, column = i / 4 * 8 + lane % 4 * 2 + i % 2;
      float sum = 0;
      for (int k = 0; k < 16; ++k) sum += a[row][k] * b[column][k];
      d[i] = product->add ? d[i] + sum : sum;
    }
    known ? mark_initialised(d, bytes) : mark_uninitialised(d, bytes);
  }
}

constexpr Collective kProduct{"wgmma", run_product};

}  // namespace

void products_wait(unsigned keep) {
  Fiber* fiber = Runner::of_this_thread().self();
  AsyncQueue& queue = *fiber->async;
  if (queue.product_groups <= keep) return;
  if (fiber->warp->present != 0xffffffffu) fault("wgmma needs whole warps");
  const unsigned done = queue.product_groups - keep, end = queue.product_group_ends[done - 1];
  for (unsigned i = 0; i < end; ++i) {
    collective(kProduct, 0xffffffffu, &queue.products[i], nullptr, queue.products[i].site);
  }
  for (unsigned i = end; i < queue.product_count; ++i) queue.products[i - end] = queue.products[i];
  queue.product_count -= end;
  for (unsigned i = 0; i < keep; ++i) queue.product_group_ends[i] = queue.product_group_ends[i + done] - end;
  queue.product_groups = keep;
}

}  // namespace unfurl::kernels::host
