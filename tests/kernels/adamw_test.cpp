#include "kernels/adamw.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/support/backends.h"

namespace unfurl::tests {
namespace {

using kernels::CpuQueue;
using kernels::ThreadPool;

const Index kCounts[] = {0, 1, 3, 7, 8, 15, 31, 33, 129, 65535, 65536, 65537, 200003};

/// The CUDA kernels have weights, moments and gradients of float, whatever the model computes in.
template <class Queue, class T>
constexpr bool kHasAdamW = std::is_same_v<Queue, CpuQueue> || std::is_same_v<T, float>;

template <class T>
std::vector<T> second_moment(Index count) {
  std::vector<T> v = normal<T>(count, 3, 0.1);
  for (T& x : v) x *= x;
  return v;
}

template <class Queue, class T>
struct Buffers {
  Guarded<T, Queue> weight, m, v, gradient;
  Buffers(const Queue& queue, Index count)
      : weight(queue, normal<T>(count, 1)),
        m(queue, normal<T>(count, 2, 0.1)),
        v(queue, second_moment<T>(count)),
        gradient(queue, normal<T>(count, 4)) {}
  bool intact() const { return weight.intact() && m.intact() && v.intact() && gradient.intact(); }
  Results results() const {
    return {doubles(weight.values()), doubles(m.values()), doubles(v.values()), doubles(gradient.values())};
  }
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

template <class Queue, class T>
void check(Index count, bool clear) {
  SCOPED_TRACE(testing::Message() << "count " << count << " clear " << clear);
  const kernels::AdamW config{.learning_rate = 0.01,
                              .beta1 = 0.9,
                              .beta2 = 0.95,
                              .eps = 1e-8,
                              .weight_decay = 0.1,
                              .step = 3,
                              .gradient_scale = 0.37};
  const Results results = on_queues<Queue>([&](const Queue& queue) {
    Buffers<Queue, T> b(queue, count);
    kernels::adamw(queue, b.weight.data(), b.m.data(), b.v.data(), b.gradient.data(), config, clear, count);
    EXPECT_TRUE(b.intact());
    return b.results();
  });
  std::vector<double> w = doubles(normal<T>(count, 1)), m = doubles(normal<T>(count, 2, 0.1));
  std::vector<double> v = doubles(second_moment<T>(count)), g = doubles(normal<T>(count, 4));
  reference(w, m, v, g, config);
  const double tolerance = sizeof(T) == 4 ? 2e-6 : 1e-14;
  expect_close(results[0], w, tolerance, "weight");
  expect_close(results[1], m, tolerance, "m");
  expect_close(results[2], v, tolerance, "v");
  EXPECT_EQ(results[3], clear ? std::vector<double>(g.size(), 0.0) : g);
}

TEST(AdamW, EqualsTheFormula) {
  on_backends([]<class Queue, class T>() {
    if constexpr (kHasAdamW<Queue, T>) {
      for (const Index count : kCounts) {
        check<Queue, T>(count, true);
        if (count < 1000) check<Queue, T>(count, false);
      }
    }
  });
}

template <class T>
class AdamWKernel : public testing::Test {};
using Types = testing::Types<float, double>;
TYPED_TEST_SUITE(AdamWKernel, Types);

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

TYPED_TEST(AdamWKernel, AnElementDoesNotDependOnItsPlace) {
  using T = TypeParam;
  ThreadPool pool(1);
  const CpuQueue queue(pool);
  const kernels::AdamW config{.learning_rate = 0.01, .weight_decay = 0.1, .step = 2, .gradient_scale = 0.5};
  Buffers<CpuQueue, T> whole(queue, 37), cut(queue, 37);
  kernels::adamw(queue, whole.weight.data(), whole.m.data(), whole.v.data(), whole.gradient.data(), config, false,
                 Index{37});
  for (const auto& [first, size] : {std::pair<Index, Index>{0, 3}, {3, 17}, {20, 17}}) {
    kernels::adamw(queue, cut.weight.data() + first, cut.m.data() + first, cut.v.data() + first,
                   cut.gradient.data() + first, config, false, size);
  }
  EXPECT_EQ(whole.weight.values(), cut.weight.values());
  EXPECT_EQ(whole.v.values(), cut.v.values());
}

template <class Queue, class T>
double sum_of_squares(const std::vector<T>& x) {
  const Results results = on_queues<Queue>([&](const Queue& queue) {
    const Guarded<T, Queue> in(queue, x);
    return Results{{kernels::sum_of_squares(queue, in.data(), static_cast<Index>(x.size()))}};
  });
  return results[0][0];
}

TEST(AdamW, SumOfSquaresEqualsThePlainSum) {
  on_backends([]<class Queue, class T>() {
    for (const Index count : kCounts) {
      const std::vector<T> x = normal<T>(count, 5);
      double expected = 0;
      for (const double value : doubles(x)) expected += value * value;
      EXPECT_NEAR((sum_of_squares<Queue>(x)), expected, 1e-12 * expected) << "count " << count;
    }
  });
}

TEST(AdamW, SumOfSquaresShowsWhatIsNotFinite) {
  on_backends([]<class Queue, class T>() {
    if constexpr (!std::is_same_v<T, bf16>) {
      using Limits = std::numeric_limits<T>;
      for (const T bad : {Limits::quiet_NaN(), Limits::infinity(), -Limits::infinity()}) {
        for (const Index count : {Index{1}, Index{19}, Index{65537}, Index{140001}}) {
          for (const Index at : {Index{0}, count - 1}) {
            std::vector<T> x(static_cast<std::size_t>(count), T(1));
            x[static_cast<std::size_t>(at)] = bad;
            EXPECT_FALSE(std::isfinite(sum_of_squares<Queue>(x))) << "count " << count << " at " << at;
          }
        }
      }
      EXPECT_NEAR(sum_of_squares<Queue>(std::vector<T>(1000, static_cast<T>(1e30))), 1e63, 1e57);
    }
  });
}

/// Steps with what the device decides, as a captured graph: the norm over two arenas of gradients, then their updates.
template <class Queue>
class StepsOnDevice {
 public:
  StepsOnDevice(const Queue& queue, Index first, Index second, const kernels::StepPolicy& policy)
      : queue_(queue), step_(queue, 1), arenas_{{queue, first}, {queue, second}} {
    const auto update = [&] {
      Index blocks = 0;
      for (Arena& arena : arenas_) {
        kernels::sum_squares_of_blocks(queue, partials_.data() + blocks, arena.gradient(), arena.count);
        blocks += kernels::norm_blocks(arena.count);
      }
      kernels::begin_step(queue, step_.data(), partials_.data(), blocks, policy);
      for (Arena& arena : arenas_) {
        kernels::adamw_step(queue, arena.buffers.weight.data(), arena.buffers.m.data(), arena.buffers.v.data(),
                            arena.buffers.gradient.data(), arena.copy.data(), step_.data(),
                            {.beta1 = policy.beta1, .beta2 = policy.beta2, .weight_decay = 0.1}, arena.count);
      }
    };
    queue.begin_capture();
    update();
    graph_ = queue.end_capture();
    step_.write({kernels::OptimizerStep{}});
  }

  kernels::OptimizerStep run(double learning_rate, const std::vector<float>& gradient) {
    kernels::OptimizerStep step = step_.values()[0];
    step.learning_rate = learning_rate;
    step.skip_norm = 1000;
    step_.write({step});
    auto next = gradient.begin();
    for (Arena& arena : arenas_) {
      arena.buffers.gradient.write(std::vector<float>(next, next + arena.count));
      next += arena.count;
    }
    queue_.launch(graph_);
    return step_.values()[0];
  }

  /// Weights, moments, gradients, copies of the weights; of both arenas.
  Results results() const {
    Results out(5);
    for (const Arena& arena : arenas_) {
      EXPECT_TRUE(arena.buffers.intact() && arena.copy.intact());
      Results part = arena.buffers.results();
      part.push_back(doubles(arena.copy.values()));
      for (std::size_t i = 0; i < 5; ++i) out[i].insert(out[i].end(), part[i].begin(), part[i].end());
    }
    EXPECT_TRUE(step_.intact() && partials_.intact());
    return out;
  }

 private:
  struct Arena {
    Index count;
    Buffers<Queue, float> buffers;
    Guarded<bf16, Queue> copy;
    Arena(const Queue& queue, Index size) : count(size), buffers(queue, size), copy(queue, size) {}
    const float* gradient() const { return buffers.gradient.data(); }
  };

  const Queue& queue_;
  Guarded<kernels::OptimizerStep, Queue> step_;
  Guarded<double, Queue> partials_{queue_, 64};
  Arena arenas_[2];
  typename Queue::Graph graph_;
};

TEST(AdamW, StepsOnTheDeviceWithoutTheHost) {
  on_backends([]<class Queue, class T>() {
    if constexpr (!std::is_same_v<Queue, CpuQueue> && std::is_same_v<T, float>) {
      const Index first = 70001, second = 21;
      const auto count = static_cast<std::size_t>(first + second);
      std::vector<float> large = normal<float>(first + second, 7), small = normal<float>(first + second, 8, 1e-4);
      std::vector<float> broken = small, outlier = large;
      broken[count - 1] = std::numeric_limits<float>::infinity();
      for (float& x : outlier) x *= 100;
      const Results results = on_queues<Queue>([&](const Queue& queue) {
        StepsOnDevice<Queue> steps(queue, first, second, {.clip_norm = 1});
        Results norms(1);
        const auto run = [&](double learning_rate, const std::vector<float>& gradient) {
          const kernels::OptimizerStep step = steps.run(learning_rate, gradient);
          norms[0].insert(norms[0].end(), {step.norm, static_cast<double>(step.gradient_scale),
                                           static_cast<double>(step.steps), static_cast<double>(step.skipped)});
        };
        run(0.01, large);
        run(0.02, broken);  // changes nothing
        run(0.02, outlier);
        const Results before = steps.results();
        EXPECT_EQ(before[3], std::vector<double>(count, 0.0));
        run(0.005, small);
        Results all = steps.results();
        all.push_back(norms[0]);
        return all;
      });
      const auto norm = [](const std::vector<float>& x) {
        double sum = 0;
        for (const float v : x) sum += static_cast<double>(v) * static_cast<double>(v);
        return std::sqrt(sum);
      };
      const std::vector<double>& norms = results[5];
      expect_close(std::vector<double>(norms.begin(), norms.begin() + 4), {norm(large), 1 / norm(large), 1, 0}, 1e-7,
                   "first step");
      EXPECT_FALSE(std::isfinite(norms[4]));
      expect_close(std::vector<double>(norms.begin() + 6, norms.begin() + 8), {1, 1}, 0, "second step");
      expect_close(std::vector<double>(norms.begin() + 8, norms.begin() + 12), {norm(outlier), 1 / norm(outlier), 1, 2},
                   1e-7, "third step");
      expect_close(std::vector<double>(norms.begin() + 12, norms.end()), {norm(small), 1, 2, 2}, 1e-7, "fourth step");

      std::vector<double> w, m, v;
      for (const Index size : {first, second}) {
        for (const float x : normal<float>(size, 1)) w.push_back(x);
        for (const float x : normal<float>(size, 2, 0.1)) m.push_back(x);
        for (const float x : second_moment<float>(size)) v.push_back(x);
      }
      kernels::AdamW config{.learning_rate = 0.01, .weight_decay = 0.1, .step = 1, .gradient_scale = 1 / norm(large)};
      reference(w, m, v, doubles(large), config);
      config = {.learning_rate = 0.005, .weight_decay = 0.1, .step = 2};
      reference(w, m, v, doubles(small), config);
      expect_close(results[0], w, 4e-6, "weight");
      expect_close(results[1], m, 2e-6, "m");
      expect_close(results[2], v, 2e-6, "v");
      EXPECT_EQ(results[3], std::vector<double>(count, 0.0));
      std::vector<double> copies;
      for (const double x : results[0]) copies.push_back(rounded<bf16>(x));
      EXPECT_EQ(results[4], copies);
    }
  });
}

}  // namespace
}  // namespace unfurl::tests
