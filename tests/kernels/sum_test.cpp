#include "kernels/sum.h"

#include <numeric>

#include "tests/support/backends.h"

namespace unfurl::tests {
namespace {

template <class Queue, class A>
void check(Index count) {
  SCOPED_TRACE(count);
  const std::vector<A> x = normal<A>(count, 1);
  const Results got = on_queues<Queue>([&](const Queue& queue) {
    const Guarded<A, Queue> in(queue, x);
    Guarded<A, Queue> total(queue, 1);
    kernels::sum(queue, total.data(), in.data(), count);
    EXPECT_TRUE(total.intact());
    return Results{doubles(total.values())};
  });
  const double exact = std::accumulate(x.begin(), x.end(), 0.0);
  expect_close(got[0], {exact}, std::numeric_limits<A>::epsilon() / (sizeof(A) == 4 ? 1.99 : 0.25), "total");
}

TEST(SumKernel, AddsInDouble) {
  on_backends([]<class Queue, class T>() {
    for (const Index count : {0, 1, 2, 255, 256, 257, 1000, 4099}) check<Queue, kernels::Accumulator<T>>(count);
  });
}

}  // namespace
}  // namespace unfurl::tests
