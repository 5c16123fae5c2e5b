// sample against a full sort in double, for every filter; ties, masked and broken logits; the distribution drawn.
#include "kernels/sampling.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "tests/support/guarded.h"
#include "tests/support/matrix.h"
#include "tests/support/random.h"

namespace unfurl::tests {
namespace {

using kernels::CpuQueue;
using kernels::Sampling;
using kernels::ThreadPool;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

template <class T>
struct Drawn {
  Guarded<std::int32_t> tokens;
  Guarded<T> log_probability;
};

template <class T>
Drawn<T> draw(const std::vector<T>& logits, Index stride, const std::vector<float>& uniforms, const Sampling& config,
              Index cols, int threads = 2) {
  const auto rows = static_cast<Index>(uniforms.size());
  Drawn<T> out{Guarded<std::int32_t>(rows), Guarded<T>(rows)};
  ThreadPool pool(threads, false);
  kernels::sample<CpuQueue, T>(CpuQueue(pool), out.tokens.data(), out.log_probability.data(), {logits.data(), stride},
                               uniforms.data(), config, rows, cols);
  EXPECT_TRUE(out.tokens.intact() && out.log_probability.intact());
  return out;
}

/// Where in the kept, renormalised order of falling probability each token lies: [from, to), empty for what is cut off.
struct Interval {
  double from = 0, to = 0;
};
template <class T>
std::vector<Interval> intervals(const T* logits, const Sampling& config, Index cols) {
  std::vector<std::size_t> order(static_cast<std::size_t>(cols));
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) { return logits[a] > logits[b]; });
  std::vector<double> p;
  for (const auto i : order) p.push_back(std::exp((double{logits[i]} - double{logits[order[0]]}) / config.temperature));
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

template <class T>
void check(Index cols, Index margin, const Sampling& config, double scale, bool ties, double tolerance) {
  const Index rows = 24, stride = cols + margin;
  auto logits = normal<T>(rows * stride, 11, scale);
  if (ties) {
    for (T& x : logits) x = std::round(x);
  }
  const auto u = uniforms(rows, 12);
  const auto got = draw(logits, stride, u, config, cols);
  for (Index r = 0; r < rows; ++r) {
    SCOPED_TRACE(::testing::Message() << "cols " << cols << " row " << r << " temperature " << config.temperature
                                      << " top_k " << config.top_k << " top_p " << config.top_p << " min_p "
                                      << config.min_p << " scale " << scale << " ties " << ties);
    const T* row = logits.data() + r * stride;
    const auto token = got.tokens[r];
    ASSERT_TRUE(token >= 0 && token < cols);
    const Interval at = intervals(row, config, cols)[static_cast<std::size_t>(token)];
    EXPECT_GT(at.to, at.from) << "token " << token << " was cut off";
    EXPECT_GE(u[static_cast<std::size_t>(r)], at.from - tolerance);
    EXPECT_LT(u[static_cast<std::size_t>(r)], at.to + tolerance);
    double sum = 0;
    for (Index c = 0; c < cols; ++c) sum += std::exp(double{row[c]} - double{row[token]});
    EXPECT_NEAR(got.log_probability[r], -std::log(sum), tolerance * (1 + std::log(sum)));
  }
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

TEST(Sampling, MatchesAFullSortOnEveryInstructionSet) {
  on_targets([] {
    check<float>(129, 1, kConfigs[10], 3, false, 2e-6);
    check<double>(129, 1, kConfigs[10], 3, true, 1e-12);
  });
}

TEST(Sampling, MatchesAFullSort) {
  for (const Sampling& config : kConfigs) {
    for (const Index cols : {1, 2, 31, 33, 64, 65, 127, 129, 2500}) {
      for (const double scale : {0.01, 3.0}) {
        for (const bool ties : {false, true}) {
          check<float>(cols, cols % 3, config, scale, ties, 2e-6);
          check<double>(cols, cols % 3, config, scale, ties, 1e-12);
        }
      }
    }
  }
}

TEST(Sampling, TemperatureZeroTakesTheFirstOfTheGreatest) {
  const std::vector<float> logits = {-1, 3, 2, 3, 1};
  for (const float temperature : {0.0f, 1e-44f}) {
    const auto got = draw<float>(logits, 5, {0.99f}, {temperature, 0, 1, 0}, 5);
    EXPECT_EQ(got.tokens[0], 1);
    EXPECT_NEAR(got.log_probability[0], 3 - std::log(2 * std::exp(3) + std::exp(-1) + std::exp(2) + std::exp(1)), 1e-6);
  }
  // So cold that all the others underflow.
  EXPECT_EQ(draw<float>(logits, 5, {0.999999f}, {1e-3f, 0, 1, 0}, 5).tokens[0], 3);
}

TEST(Sampling, NeverDrawsMinusInfinity) {
  on_targets([] {
    std::vector<float> logits(70, -kInfinity);
    logits[33] = -1e30f;
    logits[64] = std::numeric_limits<float>::quiet_NaN();
    for (const float u : {0.0f, 0.5f, 1 - 0x1p-24f}) {
      for (const Sampling& config : kConfigs) EXPECT_EQ(draw<float>(logits, 70, {u}, config, 70).tokens[0], 33);
    }
    logits[33] = -kInfinity;
    const auto nothing = draw<float>(logits, 70, {0.5f}, {}, 70);
    EXPECT_EQ(nothing.tokens[0], -1);
    EXPECT_EQ(nothing.log_probability[0], -kInfinity);
    logits[50] = kInfinity;
    EXPECT_EQ(draw<float>(logits, 70, {0.5f}, {}, 70).tokens[0], 50);
  });
}

TEST(Sampling, EqualLogitsGoByNumber) {
  const std::vector<float> logits(32000, 2.5f);
  for (const float u : {0.0f, 0.25f, 0.5f, 0.75f}) {
    EXPECT_EQ(draw<float>(logits, 32000, {u}, {}, 32000).tokens[0], static_cast<std::int32_t>(u * 32000));
    EXPECT_EQ(draw<float>(logits, 32000, {u}, {1, 100, 1, 0}, 32000).tokens[0], static_cast<std::int32_t>(u * 100));
  }
}

TEST(Sampling, DrawsTheDistribution) {
  on_targets([] {
    const Index rows = 20000, cols = 5;
    const std::vector<float> row = {0.5f, -1, 2, 0, 1};
    std::vector<float> logits;
    for (Index r = 0; r < rows; ++r) logits.insert(logits.end(), row.begin(), row.end());
    const auto got = draw<float>(logits, cols, uniforms(rows, 5), {}, cols);
    std::vector<double> share(5);
    double sum = 0;
    for (Index r = 0; r < rows; ++r) share[static_cast<std::size_t>(got.tokens[r])] += 1.0 / rows;
    for (const float x : row) sum += std::exp(x);
    for (std::size_t c = 0; c < 5; ++c) EXPECT_NEAR(share[c], std::exp(row[c]) / sum, 0.012) << c;
  });
}

TEST(Sampling, SameTokensOnAnyNumberOfThreads) {
  const auto logits = normal<float>(13 * 999, 3, 2);
  const auto u = uniforms(13, 4);
  const auto expected = draw(logits, 999, u, {1, 0, 0.9f, 0}, 999, 1);
  for (const int threads : {2, 3, 5}) {
    const auto got = draw(logits, 999, u, {1, 0, 0.9f, 0}, 999, threads);
    EXPECT_EQ(got.tokens.values(), expected.tokens.values());
    EXPECT_EQ(got.log_probability.values(), expected.log_probability.values());
  }
}

TEST(Sampling, LogProbabilityIsOptional) {
  const std::vector<float> logits = {0, 1, 0};
  std::int32_t token = -5;
  const float u = 0.1f;
  ThreadPool pool(1, false);
  kernels::sample<CpuQueue, float>(CpuQueue(pool), &token, nullptr, {logits.data(), 3}, &u, {}, 1, 3);
  EXPECT_EQ(token, 1);
}

}  // namespace
}  // namespace unfurl::tests
