// Attention of one query each over the keys that sequences share and those of their own, against plain softmax
// attention in double: odd shapes, what is behind the own lengths, numbers that are none.
#include <cmath>
#include <limits>

#include "kernels/attention.h"
#include "tests/support/backends.h"

namespace unfurl::tests {
namespace {

using kernels::DecodeShape;

struct DecodeCase {
  Index shared_length;
  std::vector<std::int32_t> own_lengths;
  Index heads, kv_heads, head_dim;
  bool aligned = true;
  bool in_memory = false;  // the shared length is read from memory, and room for more keys than there are
  Index query_gap = 8;     // behind the rows of queries, where `aligned`
};

/// By definition, in S, with scores, probabilities and outputs rounded to T.
template <class S, class T>
std::vector<double> decode_formula(const DecodeCase& c, double scale, const std::vector<double>& q,
                                   const std::vector<std::vector<double>>& keys,
                                   const std::vector<std::vector<double>>& values) {
  const auto round = [](S value) {
    return std::is_same_v<S, double> ? value : static_cast<S>(rounded<T>(static_cast<double>(value)));
  };
  const auto dim = static_cast<std::size_t>(c.head_dim), width = static_cast<std::size_t>(c.heads) * dim;
  const auto kv_width = static_cast<std::size_t>(c.kv_heads) * dim;
  std::vector<double> out;
  for (std::size_t r = 0; r < keys.size(); ++r) {
    const std::size_t length = keys[r].size() / kv_width;
    for (std::size_t h = 0; h < static_cast<std::size_t>(c.heads); ++h) {
      const std::size_t column = h / static_cast<std::size_t>(c.heads / c.kv_heads) * dim;
      std::vector<S> p(length);
      S greatest = -INFINITY, sum = 0;
      for (std::size_t j = 0; j < length; ++j) {
        S dot = 0;
        for (std::size_t x = 0; x < dim; ++x) {
          dot += static_cast<S>(q[r * width + h * dim + x]) * static_cast<S>(keys[r][j * kv_width + column + x]);
        }
        p[j] = round(static_cast<S>(scale) * dot);
        greatest = std::max(greatest, p[j]);
      }
      for (S& score : p) sum += score = std::exp(score - greatest);
      for (std::size_t x = 0; x < dim; ++x) {
        S value = 0;
        for (std::size_t j = 0; j < length; ++j) {
          value += round(p[j] / sum) * static_cast<S>(values[r][j * kv_width + column + x]);
        }
        out.push_back(static_cast<double>(round(value)));
      }
    }
  }
  return out;
}

template <class Queue, class T>
void check_decode(const DecodeCase& c) {
  SCOPED_TRACE("shared " + std::to_string(c.shared_length) + ", heads " + std::to_string(c.heads) + "/" +
               std::to_string(c.kv_heads) + " x " + std::to_string(c.head_dim));
  const Index rows = static_cast<Index>(c.own_lengths.size());
  const Index width = c.heads * c.head_dim, kv_width = c.kv_heads * c.head_dim;
  const Index capacity = *std::max_element(c.own_lengths.begin(), c.own_lengths.end()) + 3;
  const DecodeShape shape{rows, c.shared_length, capacity, c.heads, c.kv_heads, c.head_dim, 0.3};
  const auto q = normal<T>(rows * width, 1);
  const auto shared_k = normal<T>(c.shared_length * kv_width, 2), shared_v = normal<T>(c.shared_length * kv_width, 3);
  // The caches hold NaN after the own lengths.
  std::vector<T> own_k(static_cast<std::size_t>(rows * capacity * kv_width)), own_v;
  std::memset(own_k.data(), 0xff, own_k.size() * sizeof(T));
  own_v = own_k;
  std::vector<std::vector<double>> keys, values;
  for (Index r = 0; r < rows; ++r) {
    const Index own = c.own_lengths[static_cast<std::size_t>(r)] * kv_width;
    const auto k = normal<T>(own, 10 + static_cast<std::uint64_t>(r));
    const auto v = normal<T>(own, 90 + static_cast<std::uint64_t>(r));
    std::copy(k.begin(), k.end(), own_k.begin() + r * capacity * kv_width);
    std::copy(v.begin(), v.end(), own_v.begin() + r * capacity * kv_width);
    const auto joined = [](const std::vector<T>& shared, const std::vector<T>& added) {
      std::vector<T> all = shared;
      all.insert(all.end(), added.begin(), added.end());
      return doubles(all);
    };
    keys.push_back(joined(shared_k, k));
    values.push_back(joined(shared_v, v));
  }
  const Results got = on_queues<Queue>([&](const Queue& queue) {
    using Strided = StridedMatrix<T, Queue>;
    const Index gap = c.aligned ? 8 : 1;
    const Strided q_in(queue, rows, width, c.aligned ? c.query_gap : gap, q),
        k_in(queue, c.shared_length, kv_width, gap, shared_k), v_in(queue, c.shared_length, kv_width, gap, shared_v);
    const Guarded<T, Queue> own_k_in(queue, own_k), own_v_in(queue, own_v);
    const Guarded<std::int32_t, Queue> lengths(queue, c.own_lengths);
    const Guarded<std::int32_t, Queue> shared(queue,
                                              std::vector<std::int32_t>{static_cast<std::int32_t>(c.shared_length)});
    const auto decode = [&](Index first, Index count) {
      DecodeShape part = shape;
      part.rows = count;
      if (c.in_memory) {
        part.shared_length_at = shared.data();
        part.shared_length = c.shared_length + 200;
        part.most_keys = c.shared_length + capacity + 70;
      }
      Strided out(queue, count, width, 4);
      const Index at = first * capacity * kv_width;
      const kernels::Matrix<const T> all = q_in;
      kernels::attention_decode<Queue, T>(queue, out.matrix(), {all.row(first), all.stride}, k_in, v_in,
                                          own_k_in.data() + at, own_v_in.data() + at, lengths.data() + first, part);
      EXPECT_TRUE(out.intact());
      return doubles(out.values());
    };
    Results results = {decode(0, rows)};
    for (const Index r : {Index{0}, rows - 1}) {
      const auto among_others = results[0].begin() + r * width;
      EXPECT_EQ(decode(r, 1), std::vector<double>(among_others, among_others + width)) << "alone";
    }
    return results;
  });
  const auto exact = decode_formula<double, T>(c, shape.scale, doubles(q), keys, values);
  const auto plain = decode_formula<float, T>(c, shape.scale, doubles(q), keys, values);
  expect_matches<T>(got[0], exact, plain, 2.5e-14, "out");
}

TEST(AttentionDecode, AttendsToSharedAndOwnKeys) {
  const std::vector<std::int32_t> lengths = {1, 2, 31, 64, 65, 129, 200, 0};
  for (const DecodeCase& c : {DecodeCase{32, {7, 64, 1, 100}, 6, 1, 64},
                              {0, lengths, 4, 2, 5},
                              {1, lengths, 4, 4, 31},
                              {64, lengths, 1, 1, 80},
                              {7, {3, 0}, 18, 1, 136},
                              {65, {3}, 70, 1, 16, false},
                              {129, lengths, 6, 2, 1},
                              {33, {7, 64, 1, 100}, 6, 1, 64, true, true},
                              {9, {3, 1}, 2, 2, 16, true, true},
                              {9, {3, 1}, 2, 2, 16, true, false, 3}}) {
    on_backends([&]<class Queue, class T>() { check_decode<Queue, T>(c); });
  }
}

TEST(AttentionDecode, NumbersThatAreNoneAreNotHidden) {
  constexpr Index kWidth = 128;  // two heads
  on_backends([&]<class Queue, class T>() {
    for (const Index keys : {16, 200}) {
      for (const bool in_query : {true, false}) {
        SCOPED_TRACE(std::to_string(keys) + (in_query ? " keys, NaN in the query" : " keys, infinity in a key"));
        std::vector<T> q = normal<T>(kWidth, 1), k = normal<T>(keys * kWidth, 2);
        const std::vector<T> v = normal<T>(keys * kWidth, 3);
        T& bad = in_query ? q[3] : k[5 * kWidth + 3];
        const float no_number = std::numeric_limits<float>::quiet_NaN();
        const float given = in_query ? no_number : std::numeric_limits<float>::infinity();
        if constexpr (std::is_same_v<T, bf16>) {
          bad = to_bf16(given);
        } else {
          bad = given;
        }
        const auto got = on_queues<Queue>([&](const Queue& queue) {
          using Strided = StridedMatrix<T, Queue>;
          Strided out(queue, 1, kWidth, 0);
          const Strided q_in(queue, 1, kWidth, 0, q), none(queue, 0, kWidth, 0, {});
          const Guarded<T, Queue> k_in(queue, k), v_in(queue, v);
          const Guarded<std::int32_t, Queue> length(queue, std::vector<std::int32_t>{static_cast<std::int32_t>(keys)});
          kernels::attention_decode<Queue, T>(queue, out.matrix(), q_in, none, none, k_in.data(), v_in.data(),
                                              length.data(), {1, 0, keys, 2, 2, kWidth / 2, 0.1});
          std::vector<double> found;
          for (const double value : doubles(out.values())) found.push_back(std::isnan(value) ? 1 : 0);
          return Results{found};
        });
        for (Index column = 0; column < kWidth; ++column) {
          EXPECT_EQ(got[0][static_cast<std::size_t>(column)], column < kWidth / 2 ? 1 : 0) << column;
        }
      }
    }
  });
}

}  // namespace
}  // namespace unfurl::tests
