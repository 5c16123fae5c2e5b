// The kernels between the products of a decoding step, against the same by rope and sample.
#include "kernels/decode_step.h"

#include <gtest/gtest.h>

#include <cstring>
#include <limits>

#include "kernels/rope.h"
#include "tests/support/backends.h"

namespace unfurl::tests {
namespace {

using kernels::DecodeState;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

template <class Queue>
DecodeState read(const Guarded<DecodeState, Queue>& state) {
  EXPECT_TRUE(state.intact());
  return state.values()[0];
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
    const Strided k_in(queue, rows, kv, 3, k), v_in(queue, rows, kv, 5, v), q_in(queue, rows, heads * dim, 2, q);
    Strided in_place(queue, rows, heads * dim, 2, q), q_wanted(queue, rows, heads * dim, 2),
        k_wanted(queue, rows, kv, 3);
    Guarded<T, Queue> own_k(queue, rows * capacity * kv), own_v(queue, rows * capacity * kv);
    Guarded<float, Queue> table(queue, positions * dim);
    const Guarded<DecodeState, Queue> state(queue, std::vector<DecodeState>{start});
    const Guarded<std::int32_t, Queue> at(queue, std::vector<std::int32_t>(start.positions, start.positions + rows));
    kernels::rope_table<Queue, float>(queue, table.data(), positions, dim, 10000);
    kernels::rotate_and_append<Queue, T>(queue, in_place.matrix(), own_k.data(), own_v.data(), in_place, k_in, v_in,
                                         table.data(), state.data(), {rows, capacity, heads, kv_heads, dim});
    kernels::rope<Queue, T>(queue, q_wanted.matrix(), q_in, at.data(), table.data(), rows, heads, dim, false);
    kernels::rope<Queue, T>(queue, k_wanted.matrix(), k_in, at.data(), table.data(), rows, kv_heads, dim, false);
    EXPECT_TRUE(in_place.intact() && own_k.intact() && own_v.intact());
    return Results{doubles(in_place.values()), doubles(own_k.values()),    doubles(own_v.values()),
                   doubles(q_wanted.values()), doubles(k_wanted.values()), doubles(v)};
  });
  expect_close(got[0], got[3], 1e-6, "q");
  for (std::size_t cache : {1, 2}) {
    for (Index r = 0; r < rows; ++r) {
      const auto& wanted = got[cache + 3];
      for (Index entry = 0; entry < capacity; ++entry) {
        for (Index i = 0; i < kv; ++i) {
          const double value = got[cache][static_cast<std::size_t>((r * capacity + entry) * kv + i)];
          if (entry != r % capacity) {
            ASSERT_TRUE(std::isnan(value)) << "row " << r << " entry " << entry;  // untouched
          } else {
            ASSERT_NEAR(value, wanted[static_cast<std::size_t>(r * kv + i)], 1e-6) << "row " << r << " at " << i;
          }
        }
      }
    }
  }
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
  const kernels::CpuQueue cpu(one);
  std::vector<std::int32_t> follow(static_cast<std::size_t>(rows), 2);
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
      std::int32_t token = 0;
      float probability = 0;
      kernels::sample<kernels::CpuQueue, float>(cpu, &token, &probability, {masked.data(), cols}, &u, start.sampling, 1,
                                                cols);
      EXPECT_EQ(got[2 * draw][i], token) << "draw " << draw << " row " << r;
      EXPECT_NEAR(got[2 * draw + 1][i], probability, 1e-5);
      follow[i] = token % 2;
    }
  }
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
