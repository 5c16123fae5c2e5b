#include "kernels/rope.h"

#include "tests/support/backends.h"

namespace unfurl::tests {
namespace {

struct Case {
  Index tokens, heads, head_dim, gap;
};

constexpr Index kPositions = 97;

/// y; the table and the products in S.
template <class S, class T>
std::vector<double> reference(const Case& c, const std::vector<double>& x, const std::vector<std::int32_t>& at,
                              bool inverse) {
  const Index cols = c.heads * c.head_dim, half = c.head_dim / 2;
  std::vector<double> y(x.size());
  for (Index t = 0; t < c.tokens; ++t) {
    for (Index h = 0; h < c.heads; ++h) {
      for (Index i = 0; i < half; ++i) {
        const double angle = at[static_cast<std::size_t>(t)] *
                             std::pow(10000.0, -2.0 * static_cast<double>(i) / static_cast<double>(c.head_dim));
        const auto first = static_cast<std::size_t>(t * cols + h * c.head_dim + i);
        const auto second = first + static_cast<std::size_t>(half);
        const S a = static_cast<S>(x[first]), b = static_cast<S>(x[second]);
        const S cosine = static_cast<S>(std::cos(angle)),
                sine = static_cast<S>(inverse ? -std::sin(angle) : std::sin(angle));
        y[first] = rounded<T>(static_cast<double>(a * cosine - b * sine));
        y[second] = rounded<T>(static_cast<double>(a * sine + b * cosine));
      }
    }
  }
  return y;
}

template <class Queue, class T>
void check(const Case& c) {
  using Sum = kernels::Accumulator<T>;
  SCOPED_TRACE(std::to_string(c.tokens) + " tokens, heads " + std::to_string(c.heads) + " x " +
               std::to_string(c.head_dim));
  const Index cols = c.heads * c.head_dim;
  const std::vector<T> x = normal<T>(c.tokens * cols, 1);
  const std::vector<std::int32_t> at = integers(c.tokens, static_cast<std::int32_t>(kPositions), 2);
  const Results results = on_queues<Queue>([&](const Queue& queue) {
    Guarded<Sum, Queue> table(queue, kPositions * c.head_dim);
    kernels::rope_table<Queue, Sum>(queue, table.data(), kPositions, c.head_dim, 10000.0);
    const Guarded<std::int32_t, Queue> positions(queue, at);
    const StridedMatrix<T, Queue> in(queue, c.tokens, cols, c.gap, x);
    StridedMatrix<T, Queue> y(queue, c.tokens, cols, c.gap), in_place = in;
    const auto turn = [&](StridedMatrix<T, Queue>& to, const StridedMatrix<T, Queue>& from, bool inverse) {
      kernels::rope<Queue, T>(queue, to.matrix(), from, positions.data(), table.data(), c.tokens, c.heads, c.head_dim,
                              inverse);
    };
    turn(y, in, false);
    turn(in_place, in_place, false);
    EXPECT_EQ(doubles(y.values()), doubles(in_place.values()));
    turn(in_place, in_place, true);
    EXPECT_TRUE(table.intact() && y.intact() && in_place.intact());
    return Results{doubles(y.values()), doubles(in_place.values())};
  });
  expect_matches<T>(results[0], reference<double, double>(c, doubles(x), at, false),
                    reference<float, T>(c, doubles(x), at, false), tolerance<double>(), "y");
  expect_matches<T>(results[1], reference<double, double>(c, results[0], at, true),
                    reference<float, T>(c, results[0], at, true), tolerance<double>(), "turned back");
}

TEST(RopeKernel, TurnsAndTurnsBack) {
  on_backends([]<class Queue, class T>() {
    for (const Case& c : {Case{1, 1, 2, 0},
                          {5, 3, 6, 1},
                          {33, 2, 64, 0},
                          {129, 1, 34, 5},
                          {65, 6, 62, 3},
                          {100, 5, 128, 64},
                          {7, 1, 66, 0},
                          {0, 2, 8, 0}}) {
      check<Queue, T>(c);
    }
  });
}

}  // namespace
}  // namespace unfurl::tests
