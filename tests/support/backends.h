// One case list for every backend of a kernel. To add a kernel to it:
//
//  1. write `template <class Queue, class T> void check(const Case&)`. Its inputs are normal<T>(...); its arrays are
//     Guarded<T, Queue> and StridedMatrix<T, Queue>, made with the queue; it computes
//
//       const auto got = on_queues<Queue>([&](const Queue& queue) { ...; return Results{doubles(y.values()), ...}; });
//
//     so that every number of threads (CPU), every schedule and seed (CUDA executed on the CPU) or every run (GPU) must
//     give the same bits;
//  2. write the formula once, `template <class S, class T> reference(...)`, computing in S, sums one term after the
//     other, and rounding each operation's output with rounded<T>(value): reference<double, double> is what is right,
//     reference<float, T> the plain computation in T's precision. The gradient's reference starts from what the kernel
//     itself saved;
//  3. compare with expect_matches<T>(got[0], exact.y, plain.y, tolerance, "y"): in float and bf16 the greatest error
//     may be twice that of the plain computation; in double, where nothing is more exact, it is `tolerance`;
//  4. run the cases with on_backends([&]<class Queue, class T>() { check<Queue, T>(c); }): the CPU's kernels in float
//     and double, and the CUDA kernels in float and bf16, as far as the binary has them and there is a GPU.
//
// Shapes are odd and ragged on purpose, and wrap every pipeline: at least 2 * stages + 1 tiles.
#pragma once
#include <charconv>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <string_view>

#include "kernels/device/runtime.h"
#include "tests/support/matrix.h"
#if defined(UNFURL_HOST_CUDA)
#include "kernels/host/engine.h"
#endif

namespace unfurl::tests {

using Results = std::vector<std::vector<double>>;

/// Calls body.operator()<Queue, T>() for every backend and element type of this binary.
template <class Body>
void on_backends(const Body& body) {
  if (!kCudaOnly) {
    on_targets([&] {
      body.template operator()<kernels::CpuQueue, float>();
      body.template operator()<kernels::CpuQueue, double>();
    });
  }
#if defined(UNFURL_HOST_CUDA)
  {
    SCOPED_TRACE("CUDA executed on the CPU, float");
    body.template operator()<kernels::HostCudaQueue, float>();
  }
  {
    SCOPED_TRACE("CUDA executed on the CPU, bf16");
    body.template operator()<kernels::HostCudaQueue, bf16>();
  }
#endif
#if defined(UNFURL_CUDA)
  if (kernels::CudaQueue::device_count() > 0) {
    {
      SCOPED_TRACE("CUDA, float");
      body.template operator()<kernels::CudaQueue, float>();
    }
    {
      SCOPED_TRACE("CUDA, bf16");
      body.template operator()<kernels::CudaQueue, bf16>();
    }
  }
#endif
}

/// The same for the backends that run CUDA kernels alone.
template <class Body>
void on_device_backends(const Body& body) {
  on_backends([&]<class Queue, class T>() {
    if constexpr (!std::is_same_v<Queue, kernels::CpuQueue>) body.template operator()<Queue, T>();
  });
}

#if defined(UNFURL_HOST_CUDA)
/// run() under every schedule; the first result, which the others must equal. Sanitizers have a look at one or two:
/// ThreadSanitizer sees races whatever the order, but for one of many threads at random. The random
/// orders are UNFURL_SEEDS (2), from UNFURL_FIRST_SEED (1): scripts/test_long.sh tries many more.
template <class Run>
auto on_schedules(const Run& run) {
  using kernels::host::Copies;
  using kernels::host::Order;
  using kernels::host::Settings;
  Settings settings = kernels::host::settings();
  const auto under = [&](Order order, Copies copies, std::uint64_t seed) {
    settings.order = order;
    settings.copies = copies;
    settings.seed = seed;
    const kernels::host::SettingsScope scope(settings);
    return run();
  };
  const auto number = [](const char* name, std::uint64_t otherwise) {
    const std::string_view text = std::getenv(name) == nullptr ? "" : std::getenv(name);
    if (text.empty()) return otherwise;
    std::uint64_t out = 0;
    const auto [stop, problem] = std::from_chars(text.data(), text.data() + text.size(), out);
    if (problem == std::errc() && stop == text.data() + text.size()) return out;
    throw std::invalid_argument(std::string(name) + " must be a number, got \"" + std::string(text) + "\"");
  };
  static const std::uint64_t first_seed = number("UNFURL_FIRST_SEED", 1);
  static const std::uint64_t seeds = number("UNFURL_SEEDS", kReduced ? 1 : 2);
  const auto first = under(kThreadSanitizer ? Order::random : Order::in_order, Copies::late, first_seed);
  if (kCudaOnly) return first;
  for (std::uint64_t seed = first_seed; seed < first_seed + seeds; ++seed) {
    expect_same_bits(first, under(Order::random, Copies::random, seed),
                     "in random order, seed " + std::to_string(seed));
  }
  if (kReduced) return first;
  expect_same_bits(first, under(Order::reversed, Copies::late, 1), "in reversed order");
  return first;
}
#endif

/// The results of run(queue) on a queue of the backend; they must not depend on anything that may vary there.
template <class Queue, class Run>
auto on_queues(const Run& run) {
  if constexpr (std::is_same_v<Queue, kernels::CpuQueue>) {
    return on_pools(run);
#if defined(UNFURL_HOST_CUDA)
  } else if constexpr (std::is_same_v<Queue, kernels::HostCudaQueue>) {
    return on_schedules([&] { return run(kernels::HostCudaQueue()); });
#endif
  } else {
    const auto first = run(Queue());
    expect_same_bits(first, run(Queue()), "in a second run");
    return first;
  }
}

/// A value as an element of T holds it.
template <class T>
double rounded(double value) {
  if constexpr (std::is_same_v<T, bf16>) {
    return static_cast<double>(to_float(to_bf16(static_cast<float>(value))));
  } else {
    return static_cast<double>(static_cast<T>(value));
  }
}

/// In float and bf16 the greatest error (rounding_error) is at most twice that of `plain`, and some units in the last
/// place of float, in which all kernels compute, on top, for plain computations that are exact by chance. In double,
/// every element is within tolerance x (1 + |exact|).
template <class T>
void expect_matches(const std::vector<double>& got, const std::vector<double>& exact, const std::vector<double>& plain,
                    double tolerance, const std::string& what) {
  if constexpr (std::is_same_v<T, double>) {
    expect_close(got, exact, tolerance, what);
  } else {
    expect_rounding_error(got, exact, plain, 2, what);
  }
}

}  // namespace unfurl::tests
