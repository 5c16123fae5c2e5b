// cp.async: 16-byte copies into shared memory that land when they are waited for, or at a random moment before.
// The engine keeps the books; the copies themselves are made by instrumented code (host/copies.h).
#include "kernels/host/copies.h"

#include "kernels/host/runner.h"

namespace unfurl::kernels::host {

bool begin_copy(const AsyncCopy& copy, CallSite site) {
  Runner& runner = Runner::of_this_thread();
  AsyncQueue& queue = *runner.self()->async;
  if (queue.last - queue.first == AsyncQueue::kCopies) {
    fault("cp.async at %s: more than %u copies in flight in one thread", text(site), AsyncQueue::kCopies);
  }
  const Copies when = settings().copies;
  const bool now = when == Copies::at_once || (when == Copies::random && (runner.random() & 1) != 0);
  queue.copies[queue.last++ % AsyncQueue::kCopies] = {copy, now, site};
  return now;
}

void commit_copies(CallSite site) {
  AsyncQueue& queue = *Runner::of_this_thread().self()->async;
  if (queue.groups == AsyncQueue::kGroups) {
    fault("cp.async.commit_group at %s: more than %u groups in flight in one thread", text(site), AsyncQueue::kGroups);
  }
  queue.group_ends[queue.groups++] = queue.last;
}

bool next_due_copy(unsigned keep, AsyncCopy& due) {
  AsyncQueue& queue = *Runner::of_this_thread().self()->async;
  if (queue.groups <= keep) return false;
  const unsigned done = queue.groups - keep, end = queue.group_ends[done - 1];
  while (queue.first != end) {
    const AsyncQueue::Copy& copy = queue.copies[queue.first++ % AsyncQueue::kCopies];
    if (copy.landed) continue;
    due = copy.what;
    return true;
  }
  for (unsigned i = 0; i < keep; ++i) queue.group_ends[i] = queue.group_ends[i + done];
  queue.groups = keep;
  return false;
}

void check_async_done(const Fiber& fiber) {
  const AsyncQueue& queue = *fiber.async;
  if (queue.first != queue.last) {
    fault("thread returns with a cp.async of %s that it never waited for",
          text(queue.copies[queue.first % AsyncQueue::kCopies].site));
  }
  if (queue.product_count > 0) {
    fault("thread returns with a wgmma of %s that it never waited for", text(queue.products[0].site));
  }
}

}  // namespace unfurl::kernels::host
