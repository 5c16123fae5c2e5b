// The kernels between the products of a decoding step, against the same by the CPU's rope and sample, in double.
#include "kernels/decode_step.h"

#include <gtest/gtest.h>

#include <cstring>
#include <limits>

#include "kernels/rope.h"
#include "tests/support/backends.h"

namespace unfurl::tests {
namespace {

using kernels::CpuQueue;
using kernels::DecodeState;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

template <class Queue>
DecodeState read(const Guarded<DecodeState, Queue>& state) {
  EXPECT_TRUE(state.intact());
  return state.values()[0];
}

/// A matrix [rows, cols] of heads of `dim`, turned to these positions by the CPU in S.
template <class S, class T>
std::vector<double> turned(const std::vector<T>& x, const std::int32_t* positions, Index rows, Index cols, Index dim,
                           Index table_rows) {
  kernels::ThreadPool one(1);
  const CpuQueue cpu(one);
  const std::vector<double> values = doubles(x);
  const std::vector<S> in(values.begin(), values.end());
  std::vector<S> table(static_cast<std::size_t>(table_rows * dim)), out(in.size());
  kernels::rope_table<CpuQueue, S>(cpu, table.data(), table_rows, dim, 10000);
  kernels::rope<CpuQueue, S>(cpu, {out.data(), cols}, {in.data(), cols}, positions, table.data(), rows, cols / dim, dim,
                             false);
  std::vector<double> rounded_out;
  for (const S value : out) {
    rounded_out.push_back(std::is_same_v<S, double> ? value : rounded<T>(static_cast<double>(value)));
  }
  return rounded_out;
}

template <class Queue, class T>
void check_append(Index rows, Index heads, Index kv_heads, Index dim) {
  SCOPED_TRACE("rows " + std::to_string(rows) + ", heads " + std::to_string(heads) + "/" + std::to_string(kv_heads) +
               " x " + std::to_string(dim));
  const Index capacity = 5, positions = 9, kv = kv_heads * dim;
  DecodeState start;
  for (Index r = 0; r < rows; ++r) {
    start.positions[r] = static_cast<std::int32_t>((3 * r + 1) % positions);
    start.lengths[r] = static_cast<std::int32_t>(r % capacity + 1);
  }
  const auto q = normal<T>(rows * heads * dim, 1), k = normal<T>(rows * kv, 2), v = normal<T>(rows * kv, 3);
  const Results got = on_queues<Queue>([&](const Queue& queue) {
    using Strided = StridedMatrix<T, Queue>;
    const Strided k_in(queue, rows, kv, 3, k), v_in(queue, rows, kv, 5, v), q_in(queue, rows, heads * dim, 1, q);
    Strided in_place(queue, rows, heads * dim, 2, q), beside(queue, rows, heads * dim, 4);
    Guarded<T, Queue> own_k(queue, rows * capacity * kv), own_v(queue, rows * capacity * kv);
    Guarded<float, Queue> table(queue, positions * dim);
    const Guarded<DecodeState, Queue> state(queue, std::vector<DecodeState>{start});
    kernels::rope_table<Queue, float>(queue, table.data(), positions, dim, 10000);
    kernels::rotate_and_append<Queue, T>(queue, in_place.matrix(), own_k.data(), own_v.data(), in_place, k_in, v_in,
                                         table.data(), state.data(), {rows, capacity, heads, kv_heads, dim});
    kernels::rotate_and_append<Queue, T>(queue, beside.matrix(), own_k.data(), own_v.data(), q_in, k_in, v_in,
                                         table.data(), state.data(), {rows, capacity, heads, kv_heads, dim});
    EXPECT_TRUE(in_place.intact() && beside.intact() && own_k.intact() && own_v.intact());
    EXPECT_EQ(doubles(beside.values()), doubles(in_place.values()));
    return Results{doubles(in_place.values()), doubles(own_k.values()), doubles(own_v.values())};
  });
  const auto turned_in = [&]<class S>(const std::vector<T>& x, Index cols) {
    return turned<S>(x, start.positions, rows, cols, dim, positions);
  };
  expect_matches<T>(got[0], turned_in.template operator()<double>(q, heads * dim),
                    turned_in.template operator()<float>(q, heads * dim), 0, "q");
  Results appended(3);  // of the caches, what was written
  for (const std::size_t cache : {1, 2}) {
    for (Index r = 0; r < rows; ++r) {
      for (Index entry = 0; entry < capacity; ++entry) {
        for (Index i = 0; i < kv; ++i) {
          const double value = got[cache][static_cast<std::size_t>((r * capacity + entry) * kv + i)];
          if (entry != r % capacity) {
            ASSERT_TRUE(std::isnan(value)) << "row " << r << " entry " << entry;  // untouched
          } else {
            appended[cache].push_back(value);
          }
        }
      }
    }
  }
  expect_matches<T>(appended[1], turned_in.template operator()<double>(k, kv),
                    turned_in.template operator()<float>(k, kv), 0, "k");
  EXPECT_EQ(appended[2], doubles(v));
}

TEST(DecodeStep, KeysAndValuesAreAppendedWhereTheRowsEnd) {
  on_device_backends([]<class Queue, class T>() {
    check_append<Queue, T>(1, 2, 1, 64);
    check_append<Queue, T>(8, 4, 2, 16);
    check_append<Queue, T>(3, 3, 3, 10);
  });
}

/// Three states: after an even piece only odd ones, after an odd one only even ones, at the start all but 0.
std::vector<std::uint8_t> parity_table(Index cols) {
  std::vector<std::uint8_t> table(static_cast<std::size_t>(3 * cols), kernels::kNeverFollows);
  for (Index state = 0; state < 3; ++state) {
    for (Index c = 0; c < cols; ++c) {
      const bool may = state == 2 ? c > 0 : c % 2 != state;
      if (may) table[static_cast<std::size_t>(state * cols + c)] = static_cast<std::uint8_t>(c % 2);
    }
  }
  return table;
}

template <class Queue>
void check_draws(Index rows, Index cols) {
  SCOPED_TRACE("rows " + std::to_string(rows) + ", cols " + std::to_string(cols));
  constexpr int kDraws = 3;
  DecodeState start;
  start.key = {77, 6, 0};
  start.sampling = {.temperature = 0.9f, .top_k = 20, .top_p = 0.95f, .min_p = 0};
  for (Index r = 0; r < rows; ++r) {
    start.follow[r] = 2;
    start.index[r] = static_cast<std::uint64_t>(r) << 32 | 5;
    start.positions[r] = 7;
  }
  const auto logits = normal<float>(rows * cols, 4);
  const auto table = parity_table(cols);
  const Results got = on_queues<Queue>([&](const Queue& queue) {
    const Guarded<float, Queue> in(queue, logits);
    const Guarded<std::uint8_t, Queue> follows(queue, table);
    Guarded<float, Queue> masked(queue, rows * cols);
    Guarded<DecodeState, Queue> state(queue, std::vector<DecodeState>{start});
    Results out;
    for (int draw = 0; draw < kDraws; ++draw) {
      kernels::draw_tokens<Queue>(queue, state.data(), masked.data(), {in.data(), cols}, follows.data(), rows, cols);
      const DecodeState now = read(state);
      out.push_back(std::vector<double>(now.drawn, now.drawn + rows));
      out.push_back(std::vector<double>(now.log_probability, now.log_probability + rows));
      for (Index r = 0; r < rows; ++r) {
        EXPECT_EQ(now.tokens[r], now.drawn[r]);
        EXPECT_EQ(now.positions[r], 8 + draw);
        EXPECT_EQ(now.lengths[r], 1 + draw);
      }
    }
    EXPECT_TRUE(masked.intact());
    return out;
  });
  // The same on the CPU, from masked logits.
  kernels::ThreadPool one(1);
  const CpuQueue cpu(one);
  std::vector<std::int32_t> follow(static_cast<std::size_t>(rows), 2);
  std::vector<double> log_probability, exact, plain;
  for (std::uint32_t draw = 0; draw < kDraws; ++draw) {
    for (Index r = 0; r < rows; ++r) {
      const auto i = static_cast<std::size_t>(r);
      std::vector<float> masked(logits.begin() + r * cols, logits.begin() + (r + 1) * cols);
      for (Index c = 0; c < cols; ++c) {
        if (table[static_cast<std::size_t>(follow[i] * cols + c)] == kernels::kNeverFollows) {
          masked[static_cast<std::size_t>(c)] = -kInfinity;
        }
      }
      const float u = uniform(philox({77, 6, draw}, start.index[r])[0]);
      const std::vector<double> in_double = doubles(masked);
      std::int32_t token = 0, same = 0;
      double probability = 0;
      float plainly = 0;
      kernels::sample<CpuQueue, double>(cpu, &token, &probability, {in_double.data(), cols}, &u, start.sampling, 1,
                                        cols);
      kernels::sample<CpuQueue, float>(cpu, &same, &plainly, {masked.data(), cols}, &u, start.sampling, 1, cols);
      EXPECT_EQ(same, token);
      EXPECT_EQ(got[2 * draw][i], token) << "draw " << draw << " row " << r;
      log_probability.push_back(got[2 * draw + 1][i]);
      exact.push_back(probability);
      plain.push_back(static_cast<double>(plainly));
      follow[i] = token % 2;
    }
  }
  expect_matches<float>(log_probability, exact, plain, 0, "log-probability");
}

TEST(DecodeStep, TokensAreDrawnAmongThoseThatMayFollow) {
  on_device_backends([]<class Queue, class T>() {
    if constexpr (std::is_same_v<T, float>) {
      check_draws<Queue>(1, 33);
      check_draws<Queue>(8, 2500);
    }
  });
}

template <class Queue>
void check_broken() {
  const Index rows = 4, cols = 40;
  DecodeState start;
  start.sampling.temperature = 1;
  auto logits = normal<float>(rows * cols, 4);
  logits[40 + 7] = std::numeric_limits<float>::quiet_NaN();
  logits[80 + 9] = kInfinity;
  for (Index c = 0; c < cols; ++c) logits[static_cast<std::size_t>(120 + c)] = -kInfinity;
  const auto table = parity_table(cols);
  const Results got = on_queues<Queue>([&](const Queue& queue) {
    const Guarded<float, Queue> in(queue, logits);
    const Guarded<std::uint8_t, Queue> follows(queue, table);
    Guarded<float, Queue> masked(queue, rows * cols);
    Guarded<DecodeState, Queue> state(queue, std::vector<DecodeState>{start});
    kernels::draw_tokens<Queue>(queue, state.data(), masked.data(), {in.data(), cols}, follows.data(), rows, cols);
    const DecodeState now = read(state);
    for (Index r = 0; r < rows; ++r) EXPECT_TRUE(now.tokens[r] >= 0 && now.tokens[r] < cols);  // the next step's
    return Results{std::vector<double>(now.drawn, now.drawn + rows)};
  });
  EXPECT_GE(got[0][0], 0);
  EXPECT_EQ(got[0][1], kernels::kNotFinite);
  EXPECT_EQ(got[0][2], kernels::kNotFinite);
  EXPECT_EQ(got[0][3], kernels::kNothingFollows);
}

TEST(DecodeStep, LogitsThatGiveNoTokenAreTold) {
  on_device_backends([]<class Queue, class T>() {
    if constexpr (std::is_same_v<T, float>) check_broken<Queue>();
  });
}

}  // namespace
}  // namespace unfurl::tests
