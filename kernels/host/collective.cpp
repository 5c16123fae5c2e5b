// What the lanes of a warp do together: meetings, shuffles and ballots.
#include <bit>

#include "kernels/host/runner.h"

namespace unfurl::kernels::host {
namespace {

void check_mask(const Warp& warp, const Collective& what, std::uint32_t mask, unsigned lane, CallSite site) {
  if ((mask >> lane & 1) == 0) {
    fault("%s at %s: lane %u is not in its mask %08x", what.name, text(site), lane, mask);
  }
  if ((mask & ~warp.live) != 0) {
    fault("%s at %s: lanes %08x of the mask have returned", what.name, text(site), mask & ~warp.live);
  }
}

}  // namespace

void collective(const Collective& what, std::uint32_t mask, const void* in, void* out, CallSite site) {
  Runner& runner = Runner::of_this_thread();
  Fiber* fiber = runner.self();
  Warp& warp = *fiber->warp;
  mask &= warp.present;  // the last warp of a block may have fewer than 32 lanes
  check_mask(warp, what, mask, fiber->lane, site);
  Meeting* meeting = nullptr;
  for (int i = 0; i < warp.meeting_count; ++i) {
    Meeting& other = warp.meetings[i];
    if ((other.mask & mask) == 0) continue;
    if (other.what != &what || !same(other.site, site) || other.mask != mask) {
      fault("divergent warp: lane %u is in %s at %s with mask %08x, others in %s at %s with mask %08x", fiber->lane,
            what.name, text(site), mask, other.what->name, text(other.site), other.mask);
    }
    meeting = &other;
  }
  if (meeting == nullptr) {
    meeting = &warp.meetings[warp.meeting_count++];
    *meeting = {mask, 0, &what, site, warp.next_number++ % 32};
  }
  meeting->arrived |= 1u << fiber->lane;
  fiber->in = in;
  fiber->out = out;
  std::uint64_t* cell = &warp.order[meeting->number];
  if (what.orders_memory) happens_before(cell);
  if (meeting->arrived != mask) {
    runner.wait_in(what.name, site);
  } else {
    ++runner.statistics.collectives;
    *meeting = warp.meetings[--warp.meeting_count];
    if (what.run != nullptr) {
      Exchange exchange{mask, {}, {}};
      for (std::uint32_t rest = mask; rest != 0; rest &= rest - 1) {
        const int lane = std::countr_zero(rest);
        exchange.in[lane] = warp.lanes[lane]->in;
        exchange.out[lane] = warp.lanes[lane]->out;
      }
      what.run(exchange);
    }
    for (std::uint32_t rest = mask & ~(1u << fiber->lane); rest != 0; rest &= rest - 1) {
      runner.wake(warp.lanes[std::countr_zero(rest)]);
    }
    runner.step_aside();
  }
  if (what.orders_memory) happens_after(cell);
}

namespace {

struct ShuffleOperand {
  const std::uint64_t* value;
  int argument, width;
};

template <Shuffle kKind>
void run_shuffle(const Exchange& exchange) {
  for (int lane = 0; lane < 32; ++lane) {
    if ((exchange.mask >> lane & 1) == 0) continue;
    const auto* operand = static_cast<const ShuffleOperand*>(exchange.in[lane]);
    const int width = operand->width, base = lane & ~(width - 1), offset = lane - base;
    int source = offset;
    switch (kKind) {
      case Shuffle::index:
        source = operand->argument & (width - 1);
        break;
      case Shuffle::up:
        if (offset >= operand->argument) source = offset - operand->argument;
        break;
      case Shuffle::down:
        if (offset + operand->argument < width) source = offset + operand->argument;
        break;
      case Shuffle::exclusive_or:
        if ((offset ^ operand->argument) < width) source = offset ^ operand->argument;
        break;
    }
    const auto* from = static_cast<const ShuffleOperand*>(exchange.in[base + source]);
    if (from == nullptr) {
      fault("shuffle: lane %d reads lane %d, which is not in the mask %08x", lane, base + source, exchange.mask);
    }
    std::memcpy(exchange.out[lane], from->value, sizeof *from->value);
    pass_on(exchange.out[lane], sizeof *from->value, from->value, sizeof *from->value);
  }
}

void run_ballot(const Exchange& exchange) {
  std::uint32_t votes = 0;
  for (int lane = 0; lane < 32; ++lane) {
    if (exchange.in[lane] != nullptr && *static_cast<const bool*>(exchange.in[lane])) votes |= 1u << lane;
  }
  for (int lane = 0; lane < 32; ++lane) {
    if (exchange.out[lane] != nullptr) std::memcpy(exchange.out[lane], &votes, sizeof votes);
  }
}

constexpr Collective kShuffles[] = {{"__shfl_sync", run_shuffle<Shuffle::index>},
                                    {"__shfl_up_sync", run_shuffle<Shuffle::up>},
                                    {"__shfl_down_sync", run_shuffle<Shuffle::down>},
                                    {"__shfl_xor_sync", run_shuffle<Shuffle::exclusive_or>}};
constexpr Collective kBallots[] = {
    {"__ballot_sync", run_ballot}, {"__any_sync", run_ballot}, {"__all_sync", run_ballot}};

}  // namespace

void shuffle(Shuffle kind, std::uint32_t mask, const std::uint64_t& value, std::uint64_t& out, int argument, int width,
             CallSite site) {
  if (width < 1 || width > 32 || !std::has_single_bit(static_cast<unsigned>(width))) {
    fault("shuffle at %s: width %d is no power of two up to 32", text(site), width);
  }
  const ShuffleOperand operand{&value, argument, width};
  collective(kShuffles[static_cast<int>(kind)], mask, &operand, &out, site);
}

std::uint32_t ballot(Ballot kind, std::uint32_t mask, bool predicate, CallSite site) {
  std::uint32_t out = 0;
  collective(kBallots[static_cast<int>(kind)], mask, &predicate, &out, site);
  return out;
}

}  // namespace unfurl::kernels::host
