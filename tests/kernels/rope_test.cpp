#include "kernels/rope.h"

#include "tests/support/matrix.h"

namespace unfurl::tests {
namespace {

using kernels::CpuQueue;

struct Case {
  Index tokens, heads, head_dim, gap;
};

template <class T>
void check(const Case& c) {
  SCOPED_TRACE(std::to_string(c.tokens) + " tokens, heads " + std::to_string(c.heads) + " x " +
               std::to_string(c.head_dim));
  const Index cols = c.heads * c.head_dim, half = c.head_dim / 2, positions = 97;
  const std::vector<T> x = normal<T>(c.tokens * cols, 1);
  const std::vector<std::int32_t> at = integers(c.tokens, static_cast<std::int32_t>(positions), 2);
  const auto results = on_pools([&](const CpuQueue& queue) {
    Guarded<T> table(positions * c.head_dim);
    kernels::rope_table<CpuQueue, T>(queue, table.data(), positions, c.head_dim, 10000.0);
    const StridedMatrix<T> in(c.tokens, cols, c.gap, x);
    StridedMatrix<T> y(c.tokens, cols, c.gap), in_place = in;
    kernels::rope<CpuQueue, T>(queue, y.matrix(), in, at.data(), table.data(), c.tokens, c.heads, c.head_dim, false);
    kernels::rope<CpuQueue, T>(queue, in_place.matrix(), in_place, at.data(), table.data(), c.tokens, c.heads,
                               c.head_dim, false);
    EXPECT_EQ(y.values(), in_place.values());
    kernels::rope<CpuQueue, T>(queue, in_place.matrix(), in_place, at.data(), table.data(), c.tokens, c.heads,
                               c.head_dim, true);
    EXPECT_TRUE(table.intact() && y.intact() && in_place.intact());
    return std::vector<std::vector<T>>{y.values(), in_place.values()};
  });
  std::vector<double> want(x.size());
  for (Index t = 0; t < c.tokens; ++t) {
    for (Index h = 0; h < c.heads; ++h) {
      for (Index i = 0; i < half; ++i) {
        const double angle = at[static_cast<std::size_t>(t)] *
                             std::pow(10000.0, -2.0 * static_cast<double>(i) / static_cast<double>(c.head_dim));
        const auto first = static_cast<std::size_t>(t * cols + h * c.head_dim + i);
        const auto second = first + static_cast<std::size_t>(half);
        const double a = static_cast<double>(x[first]), b = static_cast<double>(x[second]);
        want[first] = a * std::cos(angle) - b * std::sin(angle);
        want[second] = a * std::sin(angle) + b * std::cos(angle);
      }
    }
  }
  expect_close(results[0], want, tolerance<T>(), "y");
  expect_close(results[1], doubles(x), tolerance<T>(), "turned back");
}

TEST(RopeKernel, TurnsAndTurnsBack) {
  on_targets([] {
    for (const Case& c : {Case{1, 1, 2, 0},
                          {5, 3, 6, 1},
                          {33, 2, 64, 0},
                          {129, 1, 34, 5},
                          {65, 6, 62, 3},
                          {300, 4, 128, 64},
                          {7, 1, 66, 0}}) {
      check<float>(c);
      check<double>(c);
    }
  });
}

}  // namespace
}  // namespace unfurl::tests
