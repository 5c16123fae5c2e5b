// sample against a full sort in double, for every filter; ties, masked and broken logits; the distribution drawn.
#include "kernels/sampling.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "tests/support/backends.h"

namespace unfurl::tests {
namespace {

using kernels::CpuQueue;
using kernels::Sampling;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct Drawn {
  std::vector<std::int32_t> tokens;
  std::vector<double> log_probability;
};

template <class T>
std::vector<T> typed(const std::vector<double>& values) {
  std::vector<T> out;
  for (const double v : values) {
    if constexpr (std::is_same_v<T, bf16>) {
      out.push_back(to_bf16(static_cast<float>(v)));
    } else {
      out.push_back(static_cast<T>(v));
    }
  }
  return out;
}

template <class Queue, class T>
Drawn draw(const std::vector<T>& logits, Index gap, const std::vector<float>& uniforms, const Sampling& config,
           Index cols) {
  const auto rows = static_cast<Index>(uniforms.size());
  const Results results = on_queues<Queue>([&](const Queue& queue) {
    const StridedMatrix<T, Queue> in(queue, rows, cols, gap, logits);
    const Guarded<float, Queue> u(queue, uniforms);
    Guarded<std::int32_t, Queue> tokens(queue, rows);
    Guarded<kernels::Accumulator<T>, Queue> log_probability(queue, rows);
    kernels::sample<Queue, T>(queue, tokens.data(), log_probability.data(), in, u.data(), config, rows, cols);
    EXPECT_TRUE(tokens.intact() && log_probability.intact());
    return Results{doubles(tokens.values()), doubles(log_probability.values())};
  });
  return {std::vector<std::int32_t>(results[0].begin(), results[0].end()), results[1]};
}

template <class Queue, class T>
std::int32_t draw_one(const std::vector<double>& logits, float uniform, const Sampling& config = {}) {
  return draw<Queue>(typed<T>(logits), 0, {uniform}, config, static_cast<Index>(logits.size())).tokens[0];
}

/// Where in the kept, renormalised order of falling probability each token lies: [from, to), empty for what is cut off.
struct Interval {
  double from = 0, to = 0;
};
std::vector<Interval> intervals(const double* logits, const Sampling& config, Index cols) {
  std::vector<std::size_t> order(static_cast<std::size_t>(cols));
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) { return logits[a] > logits[b]; });
  std::vector<double> p;
  for (const auto i : order) p.push_back(std::exp((logits[i] - logits[order[0]]) / config.temperature));
  const auto normalise = [&] {
    const double sum = std::accumulate(p.begin(), p.end(), 0.0);
    for (double& x : p) x /= sum;
  };
  normalise();
  if (config.top_k > 0 && config.top_k < cols) p.resize(static_cast<std::size_t>(config.top_k));
  normalise();
  if (config.top_p < 1) {
    double sum = 0;
    std::size_t kept = 0;
    while (kept < p.size() && sum < double{config.top_p}) sum += p[kept++];
    p.resize(std::max<std::size_t>(kept, 1));
  }
  while (p.size() > 1 && p.back() < double{config.min_p} * p[0]) p.pop_back();
  normalise();
  std::vector<Interval> out(order.size());
  double sum = 0;
  for (std::size_t i = 0; i < p.size(); ++i) out[order[i]] = {sum, sum + p[i]}, sum += p[i];
  return out;
}

std::vector<float> uniforms(Index count, std::uint64_t seed) {
  std::vector<float> out;
  for (Index i = 0; i < count; ++i) out.push_back(uniform(philox({seed, 0, 0}, static_cast<std::uint64_t>(i))[0]));
  out[0] = 0;
  if (count > 1) out[1] = 1 - 0x1p-24f;
  return out;
}

template <class Queue, class T>
void check(Index rows, Index cols, Index gap, const Sampling& config, double scale, bool ties) {
  const double tolerance = sizeof(T) == 8 ? 1e-12 : 2e-6;
  std::vector<double> values = normal<double>(rows * cols, 11, scale);
  if (ties) {
    for (double& x : values) x = std::round(x);
  }
  const std::vector<T> logits = typed<T>(values);
  values = doubles(logits);
  const auto u = uniforms(rows, 12);
  const Drawn got = draw<Queue>(logits, gap, u, config, cols);
  std::vector<double> exact, plain;  // log-probabilities
  for (Index r = 0; r < rows; ++r) {
    SCOPED_TRACE(::testing::Message() << "cols " << cols << " row " << r << " temperature " << config.temperature
                                      << " top_k " << config.top_k << " top_p " << config.top_p << " min_p "
                                      << config.min_p << " scale " << scale << " ties " << ties);
    const double* row = values.data() + r * cols;
    const auto i = static_cast<std::size_t>(r);
    const auto token = got.tokens[i];
    ASSERT_TRUE(token >= 0 && token < cols) << token;
    const Interval at = intervals(row, config, cols)[static_cast<std::size_t>(token)];
    EXPECT_GT(at.to, at.from) << "token " << token << " was cut off";
    EXPECT_GE(u[i], at.from - tolerance);
    EXPECT_LT(u[i], at.to + tolerance);
    double sum = 0;
    float sum_in_float = 0;
    const double top = *std::max_element(row, row + cols);
    for (Index c = 0; c < cols; ++c) {
      sum += std::exp(row[c] - top);
      sum_in_float += std::exp(static_cast<float>(row[c]) - static_cast<float>(top));
    }
    exact.push_back(row[token] - top - std::log(sum));
    plain.push_back(
        static_cast<double>(static_cast<float>(row[token]) - static_cast<float>(top) - std::log(sum_in_float)));
  }
  expect_matches<T>(got.log_probability, exact, plain, tolerance, "log-probability");
}

const std::vector<Sampling> kConfigs = {{},
                                        {0.7f, 0, 1, 0},
                                        {1.3f, 0, 1, 0},
                                        {1, 1, 1, 0},
                                        {1, 40, 1, 0},
                                        {0.8f, 0, 0.95f, 0},
                                        {1, 0, 0.3f, 0},
                                        {1, 0, 1e-9f, 0},
                                        {1, 0, 1, 0.05f},
                                        {1.5f, 0, 1, 0.9f},
                                        {0.9f, 50, 0.9f, 0.02f},
                                        {1, 1000000, 0.999f, 1e-4f}};

TEST(Sampling, MatchesAFullSort) {
  on_backends([]<class Queue, class T>() {
    const Index rows = std::is_same_v<Queue, CpuQueue> ? 12 : 3;
    for (const Sampling& config : kConfigs) {
      for (const Index cols : {1, 2, 31, 33, 41, 64, 65, 127, 129}) {
        if (!std::is_same_v<Queue, CpuQueue> && cols % 4 != 1) continue;
        for (const double scale : {0.01, 3.0}) check<Queue, T>(rows, cols, cols % 3, config, scale, false);
        check<Queue, T>(rows, cols, cols % 3, config, 3, true);
      }
    }
  });
}

TEST(Sampling, MatchesAFullSortOfManyTokens) {
  const auto check_all = []<class Queue, class T>() {
    for (const Sampling& config : kConfigs) {
      for (const bool ties : {false, true}) check<Queue, T>(8, 2500, 1, config, 3, ties);
    }
  };
  check_all.operator()<CpuQueue, float>();
  check_all.operator()<CpuQueue, double>();
  on_backends([]<class Queue, class T>() {
    if constexpr (!std::is_same_v<Queue, CpuQueue>) check<Queue, T>(2, 9001, 0, kConfigs[10], 2, false);
  });
}

TEST(Sampling, TemperatureZeroTakesTheFirstOfTheGreatest) {
  on_backends([]<class Queue, class T>() {
    const std::vector<double> logits = {-1, 3, 2, 3, 1};
    for (const float temperature : {0.0f, 1e-44f}) {
      const Drawn got = draw<Queue>(typed<T>(logits), 0, {0.99f}, {temperature, 0, 1, 0}, 5);
      EXPECT_EQ(got.tokens[0], sizeof(T) == 8 && temperature > 0 ? 3 : 1);  // 1e44 is a number in double
      if (got.tokens[0] != 1) continue;
      EXPECT_NEAR(got.log_probability[0], 3 - std::log(2 * std::exp(3) + std::exp(-1) + std::exp(2) + std::exp(1)),
                  1e-6);
    }
    // So cold that all the others underflow.
    EXPECT_EQ((draw_one<Queue, T>(logits, 0.999999f, {1e-3f, 0, 1, 0})), 3);
  });
}

TEST(Sampling, NeverDrawsMinusInfinity) {
  on_backends([]<class Queue, class T>() {
    std::vector<double> logits(70, -kInfinity);
    logits[33] = -1e30;
    logits[64] = std::numeric_limits<double>::quiet_NaN();
    for (const float u : {0.0f, 0.5f, 1 - 0x1p-24f}) {
      for (const Sampling& config : kConfigs) EXPECT_EQ((draw_one<Queue, T>(logits, u, config)), 33);
    }
    logits[33] = -kInfinity;
    const Drawn nothing = draw<Queue>(typed<T>(logits), 0, {0.5f}, {}, 70);
    EXPECT_EQ(nothing.tokens[0], -1);
    EXPECT_EQ(nothing.log_probability[0], -kInfinity);
    logits[50] = kInfinity;
    EXPECT_EQ((draw_one<Queue, T>(logits, 0.5f)), 50);
  });
}

TEST(Sampling, EqualLogitsGoByNumber) {
  on_backends([]<class Queue, class T>() {
    const std::vector<double> logits(32000, 2.5);
    for (const float u : {0.0f, 0.25f, 0.75f}) {
      EXPECT_EQ((draw_one<Queue, T>(logits, u)), static_cast<std::int32_t>(u * 32000));
      EXPECT_EQ((draw_one<Queue, T>(logits, u, {1, 100, 1, 0})), static_cast<std::int32_t>(u * 100));
    }
  });
}

TEST(Sampling, DrawsTheDistribution) {
  on_backends([]<class Queue, class T>() {
    const Index rows = std::is_same_v<Queue, CpuQueue> ? 4000 : 100, cols = 5;
    const std::vector<double> row = {0.5, -1, 2, 0, 1};
    std::vector<double> logits;
    for (Index r = 0; r < rows; ++r) logits.insert(logits.end(), row.begin(), row.end());
    const Drawn got = draw<Queue>(typed<T>(logits), 0, uniforms(rows, 5), {}, cols);
    std::vector<double> share(5);
    double sum = 0;
    for (const std::int32_t token : got.tokens)
      share[static_cast<std::size_t>(token)] += 1.0 / static_cast<double>(rows);
    for (const double x : row) sum += std::exp(x);
    const double error = 1.7 / std::sqrt(static_cast<double>(rows));
    for (std::size_t c = 0; c < 5; ++c) EXPECT_NEAR(share[c], std::exp(row[c]) / sum, error) << c;
  });
}

TEST(Sampling, LogProbabilityIsOptional) {
  on_backends([]<class Queue, class T>() {
    const Results results = on_queues<Queue>([&](const Queue& queue) {
      const Guarded<T, Queue> logits(queue, typed<T>({0, 1, 0}));
      const Guarded<float, Queue> u(queue, std::vector<float>{0.1f});
      Guarded<std::int32_t, Queue> token(queue, 1);
      kernels::sample<Queue, T>(queue, token.data(), nullptr, {logits.data(), 3}, u.data(), {}, 1, 3);
      return Results{doubles(token.values())};
    });
    EXPECT_EQ(results[0][0], 1);
  });
}

template <class Queue, class T>
void check_settings_in_memory(const Sampling& config) {
  const Index rows = 3, cols = 70;
  const auto logits = normal<T>(rows * cols, 11, 2.0);
  const auto u = uniforms(rows, 12);
  const Drawn wanted = draw<Queue>(logits, 0, u, config, cols);
  const Results got = on_queues<Queue>([&](const Queue& queue) {
    const Guarded<T, Queue> in(queue, logits);
    const Guarded<float, Queue> numbers(queue, u);
    const Guarded<Sampling, Queue> settings(queue, std::vector<Sampling>{config});
    Guarded<std::int32_t, Queue> tokens(queue, rows);
    kernels::sample_by<Queue, T>(queue, tokens.data(), nullptr, {in.data(), cols}, numbers.data(), settings.data(),
                                 rows, cols);
    EXPECT_TRUE(tokens.intact());
    return Results{doubles(tokens.values())};
  });
  EXPECT_EQ(std::vector<std::int32_t>(got[0].begin(), got[0].end()), wanted.tokens);
}

TEST(Sampling, SettingsMayBeInMemory) {
  on_backends([]<class Queue, class T>() {
    check_settings_in_memory<Queue, T>({.temperature = 0.7f, .top_k = 9, .top_p = 0.8f, .min_p = 0.01f});
    check_settings_in_memory<Queue, T>({.temperature = 0});
  });
}

}  // namespace
}  // namespace unfurl::tests
