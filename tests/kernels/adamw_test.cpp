#include "kernels/adamw.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/support/guarded.h"
#include "tests/support/random.h"

namespace unfurl::tests {
namespace {

using kernels::CpuQueue;
using kernels::ThreadPool;

const Index kCounts[] = {0, 1, 3, 7, 8, 15, 31, 33, 129, 65535, 65536, 65537, 200003};

template <class T>
struct Buffers {
  Guarded<T> weight, m, v, gradient;
  explicit Buffers(Index count)
      : weight(normal<T>(count, 1)),
        m(normal<T>(count, 2, 0.1)),
        v(normal<T>(count, 3, 0.1)),
        gradient(normal<T>(count, 4)) {
    for (Index i = 0; i < count; ++i) v[i] = v[i] * v[i];
  }
  bool intact() const { return weight.intact() && m.intact() && v.intact() && gradient.intact(); }
};

/// The formula of kernels/adamw.h, element by element, in double.
void reference(std::vector<double>& w, std::vector<double>& m, std::vector<double>& v,
               const std::vector<double>& gradient, const kernels::AdamW& c) {
  const double t = static_cast<double>(c.step);
  for (std::size_t i = 0; i < w.size(); ++i) {
    const double g = gradient[i] * c.gradient_scale;
    m[i] = c.beta1 * m[i] + (1 - c.beta1) * g;
    v[i] = c.beta2 * v[i] + (1 - c.beta2) * g * g;
    const double m_hat = m[i] / (1 - std::pow(c.beta1, t)), v_hat = v[i] / (1 - std::pow(c.beta2, t));
    w[i] -= c.learning_rate * (m_hat / (std::sqrt(v_hat) + c.eps) + c.weight_decay * w[i]);
  }
}

template <class T>
std::vector<double> doubles(const Guarded<T>& x) {
  const std::vector<T> values = x.values();
  return {values.begin(), values.end()};
}

template <class T>
class AdamWKernel : public testing::Test {};
using Types = testing::Types<float, double>;
TYPED_TEST_SUITE(AdamWKernel, Types);

TYPED_TEST(AdamWKernel, EqualsTheFormula) {
  using T = TypeParam;
  const double tolerance = std::is_same_v<T, float> ? 2e-6 : 1e-14;
  ThreadPool pool(2, false);
  const CpuQueue queue(pool);
  for (const Index count : kCounts) {
    for (const bool clear : {false, true}) {
      const kernels::AdamW config{.learning_rate = 0.01,
                                  .beta1 = 0.9,
                                  .beta2 = 0.95,
                                  .eps = 1e-8,
                                  .weight_decay = 0.1,
                                  .step = 3,
                                  .gradient_scale = 0.37};
      Buffers<T> b(count);
      std::vector<double> w = doubles(b.weight), m = doubles(b.m), v = doubles(b.v);
      const std::vector<double> g = doubles(b.gradient);
      reference(w, m, v, g, config);
      kernels::adamw(queue, b.weight.data(), b.m.data(), b.v.data(), b.gradient.data(), config, clear, count);
      EXPECT_TRUE(b.intact()) << "count " << count;
      for (Index i = 0; i < count; ++i) {
        const auto j = static_cast<std::size_t>(i);
        ASSERT_NEAR(b.weight[i], w[j], tolerance * (1 + std::abs(w[j]))) << "count " << count << " at " << i;
        ASSERT_NEAR(b.m[i], m[j], tolerance) << "count " << count << " at " << i;
        ASSERT_NEAR(b.v[i], v[j], tolerance) << "count " << count << " at " << i;
        ASSERT_EQ(b.gradient[i], clear ? T(0) : static_cast<T>(g[j])) << "count " << count << " at " << i;
      }
    }
  }
}

TYPED_TEST(AdamWKernel, FirstStepMovesByTheLearningRate) {
  using T = TypeParam;
  ThreadPool pool(1);
  const CpuQueue queue(pool);
  std::vector<T> weight(5, 2), m(5, 0), v(5, 0), gradient{1, -1, 1e-3, -1e3, 0};
  const kernels::AdamW config{.learning_rate = 0.125, .eps = 1e-12, .weight_decay = 0};
  kernels::adamw(queue, weight.data(), m.data(), v.data(), gradient.data(), config, false, Index{5});
  for (const int i : {0, 2}) EXPECT_NEAR(weight[static_cast<std::size_t>(i)], 2 - 0.125, 1e-6);
  for (const int i : {1, 3}) EXPECT_NEAR(weight[static_cast<std::size_t>(i)], 2 + 0.125, 1e-6);
  EXPECT_EQ(weight[4], T(2));
}

TYPED_TEST(AdamWKernel, SmallDecayIsNotRoundedAway) {
  using T = TypeParam;
  ThreadPool pool(1);
  const CpuQueue queue(pool);
  std::vector<T> weight(9, 1), m(9, 0), v(9, 0), gradient(9, 0);
  const kernels::AdamW config{.learning_rate = 1e-5, .weight_decay = 0.1};
  kernels::adamw(queue, weight.data(), m.data(), v.data(), gradient.data(), config, false, Index{9});
  for (const T w : weight) EXPECT_NEAR(1 - static_cast<double>(w), 1e-6, 6e-8);
}

TYPED_TEST(AdamWKernel, SameBitsOnAnyNumberOfThreads) {
  using T = TypeParam;
  const Index count = 3 * 65536 + 5;
  const kernels::AdamW config{.learning_rate = 0.01, .weight_decay = 0.1, .step = 2, .gradient_scale = 0.5};
  std::vector<T> weight, m, v;
  double sum = 0;
  for (const int threads : {1, 2, 3, 5}) {
    ThreadPool pool(threads, false);
    const CpuQueue queue(pool);
    Buffers<T> b(count);
    const double this_sum = kernels::sum_of_squares(queue, b.gradient.data(), count);
    kernels::adamw(queue, b.weight.data(), b.m.data(), b.v.data(), b.gradient.data(), config, true, count);
    if (threads == 1) {
      sum = this_sum, weight = b.weight.values(), m = b.m.values(), v = b.v.values();
      continue;
    }
    EXPECT_EQ(this_sum, sum) << threads << " threads";
    EXPECT_EQ(b.weight.values(), weight) << threads << " threads";
    EXPECT_EQ(b.m.values(), m) << threads << " threads";
    EXPECT_EQ(b.v.values(), v) << threads << " threads";
  }
}

TYPED_TEST(AdamWKernel, AnElementDoesNotDependOnItsPlace) {
  using T = TypeParam;
  ThreadPool pool(1);
  const CpuQueue queue(pool);
  const kernels::AdamW config{.learning_rate = 0.01, .weight_decay = 0.1, .step = 2, .gradient_scale = 0.5};
  Buffers<T> whole(37), cut(37);
  kernels::adamw(queue, whole.weight.data(), whole.m.data(), whole.v.data(), whole.gradient.data(), config, false,
                 Index{37});
  for (const auto& [first, size] : {std::pair<Index, Index>{0, 3}, {3, 17}, {20, 17}}) {
    kernels::adamw(queue, cut.weight.data() + first, cut.m.data() + first, cut.v.data() + first,
                   cut.gradient.data() + first, config, false, size);
  }
  EXPECT_EQ(whole.weight.values(), cut.weight.values());
  EXPECT_EQ(whole.v.values(), cut.v.values());
}

TYPED_TEST(AdamWKernel, SumOfSquaresEqualsThePlainSum) {
  using T = TypeParam;
  ThreadPool pool(2, false);
  const CpuQueue queue(pool);
  for (const Index count : kCounts) {
    const Guarded<T> x(normal<T>(count, 5));
    double expected = 0;
    for (const double value : doubles(x)) expected += value * value;
    EXPECT_NEAR(kernels::sum_of_squares(queue, x.data(), count), expected, 1e-12 * expected) << "count " << count;
  }
}

TYPED_TEST(AdamWKernel, SumOfSquaresShowsWhatIsNotFinite) {
  using T = TypeParam;
  using Limits = std::numeric_limits<T>;
  ThreadPool pool(2, false);
  const CpuQueue queue(pool);
  for (const T bad : {Limits::quiet_NaN(), Limits::infinity(), -Limits::infinity()}) {
    for (const Index count : {Index{1}, Index{19}, Index{65537}, Index{140001}}) {
      for (const Index at : {Index{0}, count / 2, count - 1}) {
        std::vector<T> x(static_cast<std::size_t>(count), T(1));
        x[static_cast<std::size_t>(at)] = bad;
        EXPECT_FALSE(std::isfinite(kernels::sum_of_squares(queue, x.data(), count)))
            << "count " << count << " at " << at;
      }
    }
  }
  const std::vector<T> large(1000, static_cast<T>(1e30));
  EXPECT_NEAR(kernels::sum_of_squares(queue, large.data(), Index{1000}), 1e63, 1e57);
}

}  // namespace
}  // namespace unfurl::tests
