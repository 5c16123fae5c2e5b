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

template <class S>
struct State {
  std::vector<S> weight, m, v;

  template <class T>
  static State of(Index count) {
    const auto in_s = [](const std::vector<T>& x) { return std::vector<S>(x.begin(), x.end()); };
    return {in_s(normal<T>(count, 1)), in_s(normal<T>(count, 2, 0.1)), in_s(second_moment<T>(count))};
  }

  /// The formula of kernels/adamw.h, element by element, in S; what no element has a part in is double.
  void step(const std::vector<double>& gradient, const kernels::AdamW& c) {
    const double t = static_cast<double>(c.step);
    const auto in_s = [](double value) { return static_cast<S>(value); };
    const S beta1 = in_s(c.beta1), beta2 = in_s(c.beta2), first = in_s(1 - c.beta1), second = in_s(1 - c.beta2);
    const S m_part = in_s(1 - std::pow(c.beta1, t)), v_part = in_s(1 - std::pow(c.beta2, t));
    for (std::size_t i = 0; i < weight.size(); ++i) {
      const S g = in_s(gradient[i]) * in_s(c.gradient_scale);
      m[i] = beta1 * m[i] + first * g;
      v[i] = beta2 * v[i] + second * g * g;
      const S update = (m[i] / m_part) / (std::sqrt(v[i] / v_part) + in_s(c.eps));
      weight[i] -= in_s(c.learning_rate) * (update + in_s(c.weight_decay) * weight[i]);
    }
  }

  void append(const State& other) {
    weight.insert(weight.end(), other.weight.begin(), other.weight.end());
    m.insert(m.end(), other.m.begin(), other.m.end());
    v.insert(v.end(), other.v.begin(), other.v.end());
  }
};

/// Weights and moments.
template <class T>
void expect_state(const Results& got, const State<double>& exact, const State<float>& plain) {
  expect_matches<T>(got[0], exact.weight, doubles(plain.weight), 1e-14, "weight");
  expect_matches<T>(got[1], exact.m, doubles(plain.m), 1e-14, "m");
  expect_matches<T>(got[2], exact.v, doubles(plain.v), 1e-14, "v");
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
  const std::vector<double> g = doubles(normal<T>(count, 4));
  auto exact = State<double>::of<T>(count);
  auto plain = State<float>::of<T>(count);
  exact.step(g, config);
  plain.step(g, config);
  expect_state<T>(results, exact, plain);
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

      auto exact = State<double>::of<float>(first);
      auto plain = State<float>::of<float>(first);
      exact.append(State<double>::of<float>(second));
      plain.append(State<float>::of<float>(second));
      kernels::AdamW config{.learning_rate = 0.01, .weight_decay = 0.1, .step = 1, .gradient_scale = 1 / norm(large)};
      exact.step(doubles(large), config);
      plain.step(doubles(large), config);
      config = {.learning_rate = 0.005, .weight_decay = 0.1, .step = 2};
      exact.step(doubles(small), config);
      plain.step(doubles(small), config);
      expect_state<float>(results, exact, plain);
      EXPECT_EQ(results[3], std::vector<double>(count, 0.0));
      std::vector<double> copies;
      for (const double x : results[0]) copies.push_back(rounded<bf16>(x));
      EXPECT_EQ(results[4], copies);
    }
  });
}

}  // namespace
}  // namespace unfurl::tests
