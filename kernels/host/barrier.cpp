// Barriers of a block. Those who wait belong to a generation: the next one may fill before all of them have run.
#include "kernels/host/runner.h"

namespace unfurl::kernels::host {
namespace {

void arrive(Runner& runner, Barrier& barrier, unsigned count, const char* what, CallSite site) {
  Fiber* fiber = runner.self();
  if (count == 0 && settings().strict) {
    if (barrier.arrived > 0 && !same(barrier.site, site)) {
      fault("divergent %s: this thread is at %s, others wait at %s", what, text(site), text(barrier.site));
    }
    if (runner.live < runner.threads) {
      fault("%s at %s after %u threads of the block have returned", what, text(site), runner.threads - runner.live);
    }
  }
  if (barrier.arrived > 0 && barrier.expected != count) {
    fault("%s at %s for %u threads, others wait at %s for %u", what, text(site), count, text(barrier.site),
          barrier.expected);
  }
  barrier.site = site;
  barrier.expected = count;
  ++barrier.arrived;
  std::uint64_t* cell = &barrier.order[barrier.generation & 1];
  happens_before(cell);
  if (barrier.arrived >= (count > 0 ? count : runner.live)) {
    runner.complete_barrier(barrier);
    runner.step_aside();
  } else {
    fiber->next = barrier.waiters;
    barrier.waiters = fiber;
    runner.wait_in(what, site);
  }
  happens_after(cell);
}

}  // namespace

void Runner::complete_barrier(Barrier& barrier) {
  ++statistics.barriers;
  barrier.voted[barrier.generation & 1] = barrier.votes;
  barrier.votes = 0;
  barrier.arrived = 0;
  ++barrier.generation;
  wake_all(std::exchange(barrier.waiters, nullptr));
}

void barrier(unsigned id, unsigned count, CallSite site) {
  Runner& runner = Runner::of_this_thread();
  if (id >= Runner::kBarriers) fault("barrier %u at %s: there are %u", id, text(site), Runner::kBarriers);
  if (count % 32 != 0) fault("barrier %u at %s for %u threads: not whole warps", id, text(site), count);
  arrive(runner, runner.barriers[id], count, count == 0 ? "__syncthreads" : "bar.sync", site);
}

int barrier_vote(Vote vote, bool predicate, CallSite site) {
  Runner& runner = Runner::of_this_thread();
  Barrier& barrier = runner.barriers[0];
  const unsigned generation = barrier.generation;
  const int all = static_cast<int>(runner.live);
  barrier.votes += predicate ? 1 : 0;
  arrive(runner, barrier, 0, "__syncthreads", site);
  const int votes = barrier.voted[generation & 1];
  return vote == Vote::count ? votes : vote == Vote::all ? votes == all : votes > 0;
}

}  // namespace unfurl::kernels::host
