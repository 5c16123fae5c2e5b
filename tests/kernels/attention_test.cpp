// Attention against plain softmax attention in double with an explicit mask, and its analytic adjoint: odd head
// dimensions, document lengths around the tiles' edges, every kind of prefix, slices of one joint matrix, padding; and
// decoding against the forward pass of whole sequences.
#include "kernels/attention.h"

#include <cmath>

#include "tests/support/matrix.h"

namespace unfurl::tests {
namespace {

using kernels::AttentionShape;
using kernels::CpuQueue;
using kernels::DecodeShape;

/// Documents, each with its prefix, and tokens of padding after them.
struct Layout {
  std::vector<std::int32_t> cu_seqlens{0}, prefixes;
  Index tokens = 0;

  void add(Index length, Index prefix) {
    cu_seqlens.push_back(cu_seqlens.back() + static_cast<std::int32_t>(length));
    prefixes.push_back(static_cast<std::int32_t>(prefix));
    tokens = cu_seqlens.back();
  }
  Index documents() const { return static_cast<Index>(prefixes.size()); }
};

/// Prefixes are 0, 1, a part and the whole in turn, starting with `kind`.
Layout layout(const std::vector<Index>& lengths, Index kind, Index padding) {
  Layout out;
  for (const Index length : lengths) {
    const Index prefixes[] = {0, std::min<Index>(1, length), (length + 2) / 3, length};
    out.add(length, prefixes[kind++ % 4]);
  }
  out.tokens += padding;
  return out;
}

struct Case {
  Index heads, kv_heads, head_dim;
  Layout layout;
  double size = 1;  // of the queries

  Index width() const { return heads * head_dim; }
  Index kv_width() const { return kv_heads * head_dim; }
  AttentionShape shape() const {
    return {layout.tokens, layout.documents(), heads,
            kv_heads,      head_dim,           1.25 / std::sqrt(static_cast<double>(head_dim))};
  }
  std::string name() const {
    return testing::PrintToString(heads) + "/" + testing::PrintToString(kv_heads) + " heads of " +
           testing::PrintToString(head_dim) + ", lengths up to " + testing::PrintToString(layout.cu_seqlens);
  }
};

/// What a pass reads and leaves, in the order out, lse, dq, dk, dv.
template <class T>
struct Inputs {
  explicit Inputs(const Case& c)
      : q(normal<T>(c.layout.tokens * c.width(), 1, c.size)),
        k(normal<T>(c.layout.tokens * c.kv_width(), 2)),
        v(normal<T>(c.layout.tokens * c.kv_width(), 3)),
        dout(normal<T>(c.layout.tokens * c.width(), 4)) {}
  std::vector<T> q, k, v, dout;
};

/// By definition, in double.
template <class T>
std::vector<std::vector<double>> reference(const Case& c) {
  const Inputs<T> in(c);
  const AttentionShape shape = c.shape();
  const auto q = doubles(in.q), k = doubles(in.k), v = doubles(in.v), dout = doubles(in.dout);
  std::vector<double> out(q.size()), lse(static_cast<std::size_t>(c.heads * shape.tokens)), dq(q.size()), dk(k.size()),
      dv(v.size());
  for (Index d = 0; d < shape.documents; ++d) {
    const Index begin = c.layout.cu_seqlens[static_cast<std::size_t>(d)];
    const Index end = c.layout.cu_seqlens[static_cast<std::size_t>(d + 1)];
    const Index prefix_end = begin + c.layout.prefixes[static_cast<std::size_t>(d)];
    for (Index h = 0; h < c.heads; ++h) {
      const Index column = h * c.head_dim, kv_column = h / (c.heads / c.kv_heads) * c.head_dim;
      for (Index i = begin; i < end; ++i) {
        const auto at_q = static_cast<std::size_t>(i * c.width() + column);
        const auto at_k = [&](Index j) { return static_cast<std::size_t>(j * c.kv_width() + kv_column); };
        const auto dot = [&](const double* a, const double* b) {
          double sum = 0;
          for (Index x = 0; x < c.head_dim; ++x) sum += a[x] * b[x];
          return sum;
        };
        const auto sees = [&](Index j) { return j <= i || j < prefix_end; };
        std::vector<double> p(static_cast<std::size_t>(end - begin));
        double greatest = -INFINITY, sum = 0, delta = 0;
        for (Index j = begin; j < end; ++j) {
          double& score = p[static_cast<std::size_t>(j - begin)];
          score = sees(j) ? shape.scale * dot(&q[at_q], &k[at_k(j)]) : -INFINITY;
          greatest = std::max(greatest, score);
        }
        for (double& score : p) sum += score = std::exp(score - greatest);
        lse[static_cast<std::size_t>(h * shape.tokens + i)] = greatest + std::log(sum);
        for (Index j = begin; j < end; ++j) {
          const double weight = p[static_cast<std::size_t>(j - begin)] /= sum;
          for (std::size_t x = 0; x < static_cast<std::size_t>(c.head_dim); ++x)
            out[at_q + x] += weight * v[at_k(j) + x];
        }
        delta = dot(&dout[at_q], &out[at_q]);
        for (Index j = begin; j < end; ++j) {
          const double weight = p[static_cast<std::size_t>(j - begin)];
          const double ds = shape.scale * weight * (dot(&dout[at_q], &v[at_k(j)]) - delta);
          for (std::size_t x = 0; x < static_cast<std::size_t>(c.head_dim); ++x) {
            dq[at_q + x] += ds * k[at_k(j) + x];
            dk[at_k(j) + x] += ds * q[at_q + x];
            dv[at_k(j) + x] += weight * dout[at_q + x];
          }
        }
      }
    }
  }
  return {out, lse, dq, dk, dv};
}

/// q, k, v are slices of one matrix, as a joint projection leaves them, their gradients of another; out is a slice that
/// starts after a column that is not ours.
template <class T>
std::vector<std::vector<T>> kernel(const CpuQueue& queue, const Case& c) {
  const Inputs<T> in(c);
  const AttentionShape shape = c.shape();
  const Index tokens = shape.tokens, joint_width = c.width() + 2 * c.kv_width();
  StridedMatrix<T> joint(tokens, joint_width, 3), joint_gradient(tokens, joint_width, 5),
      wide(tokens, 1 + c.width(), 2);
  const auto slice = [](StridedMatrix<T>& matrix, Index column) {
    return kernels::Matrix<T>{matrix.matrix().data + column, matrix.matrix().stride};
  };
  const auto fill = [&](kernels::Matrix<T> to, const std::vector<T>& values, Index cols) {
    for (Index r = 0; r < tokens; ++r) std::copy_n(values.data() + r * cols, cols, to.row(r));
  };
  const auto read = [&](kernels::Matrix<T> from, Index cols) {
    std::vector<T> out;
    for (Index r = 0; r < tokens; ++r) out.insert(out.end(), from.row(r), from.row(r) + cols);
    return out;
  };
  const Index k_column = c.width(), v_column = c.width() + c.kv_width();
  fill(slice(joint, 0), in.q, c.width());
  fill(slice(joint, k_column), in.k, c.kv_width());
  fill(slice(joint, v_column), in.v, c.kv_width());
  const StridedMatrix<T> dout(tokens, c.width(), 1, in.dout);
  Guarded<T> lse(c.heads * tokens);
  const Guarded<std::int32_t> cu_seqlens(c.layout.cu_seqlens), prefixes(c.layout.prefixes);
  const auto out = slice(wide, 1);

  kernels::attention_forward<CpuQueue, T>(queue, out, nullptr, slice(joint, 0), slice(joint, k_column),
                                          slice(joint, v_column), cu_seqlens.data(), prefixes.data(), shape);
  const auto without_lse = read(out, c.width());
  kernels::attention_forward<CpuQueue, T>(queue, out, lse.data(), slice(joint, 0), slice(joint, k_column),
                                          slice(joint, v_column), cu_seqlens.data(), prefixes.data(), shape);
  EXPECT_EQ(read(out, c.width()), without_lse);
  kernels::attention_backward<CpuQueue, T>(queue, slice(joint_gradient, 0), slice(joint_gradient, k_column),
                                           slice(joint_gradient, v_column), dout, out, lse.data(), slice(joint, 0),
                                           slice(joint, k_column), slice(joint, v_column), cu_seqlens.data(),
                                           prefixes.data(), shape);
  EXPECT_TRUE(joint.intact() && joint_gradient.intact() && wide.intact() && lse.intact());
  for (Index r = 0; r < tokens; ++r) EXPECT_TRUE(std::isnan(wide.matrix().row(r)[0])) << "wrote beside row " << r;
  return {without_lse, lse.values(), read(slice(joint_gradient, 0), c.width()),
          read(slice(joint_gradient, k_column), c.kv_width()), read(slice(joint_gradient, v_column), c.kv_width())};
}

template <class T>
void compare(const std::vector<std::vector<T>>& got, const std::vector<std::vector<double>>& want, double tolerance) {
  const char* names[] = {"out", "lse", "dq", "dk", "dv"};
  for (std::size_t i = 0; i < 5; ++i) expect_close(got[i], want[i], tolerance, names[i]);
}

template <class T>
constexpr double kTolerance = sizeof(T) == 4 ? 1e-5 : 1e-13;

const std::vector<Index> kLengths = {0, 1, 2, 31, 32, 33, 63, 64, 0, 65, 127, 129, 200, 0};

template <class T>
void check_heads(Index heads, Index kv_heads, const std::vector<Index>& head_dims) {
  static kernels::ThreadPool pool(2, false);
  for (const Index head_dim : head_dims) {
    const Case c{heads, kv_heads, head_dim, layout(kLengths, head_dim, 7)};
    SCOPED_TRACE(c.name());
    compare(kernel<T>(CpuQueue(pool), c), reference<T>(c), kTolerance<T>);
  }
}

TEST(AttentionKernel, OneHeadF32) { check_heads<float>(1, 1, {1, 5, 31, 64, 80, 128}); }
TEST(AttentionKernel, OneHeadF64) { check_heads<double>(1, 1, {1, 5, 31, 64, 80, 128}); }
TEST(AttentionKernel, ManyHeads) { check_heads<float>(4, 4, {5, 64}); }
TEST(AttentionKernel, GroupedQuery) {
  check_heads<float>(4, 2, {31, 128});
  check_heads<double>(4, 2, {80});
}
TEST(AttentionKernel, MultiQuery) {
  check_heads<float>(6, 1, {1, 64, 80});
  check_heads<double>(6, 1, {5});
}

TEST(AttentionKernel, EveryPrefixOfEveryLength) {
  static kernels::ThreadPool pool(2, false);
  for (Index kind = 0; kind < 4; ++kind) {
    const Case c{3, 1, 16, layout(kLengths, kind, kind)};
    SCOPED_TRACE(c.name());
    compare(kernel<double>(CpuQueue(pool), c), reference<double>(c), kTolerance<double>);
  }
}

TEST(AttentionKernel, SameOnEveryInstructionSetAndPool) {
  // Among the documents is one that is cut into several tasks.
  for (const Case& c : {Case{6, 1, 24, layout({200, 3, 40, 65, 129}, 2, 3)}, {2, 2, 7, layout({1, 17, 67}, 3, 0)}}) {
    SCOPED_TRACE(c.name());
    const auto want = reference<float>(c);
    const auto want_double = reference<double>(c);
    on_targets([&] {
      compare(on_pools([&](const CpuQueue& queue) { return kernel<float>(queue, c); }), want, kTolerance<float>);
      compare(on_pools([&](const CpuQueue& queue) { return kernel<double>(queue, c); }), want_double,
              kTolerance<double>);
    });
  }
}

TEST(AttentionKernel, MoreHeadsThanATileHasRows) {
  static kernels::ThreadPool pool(2, false);
  const Case c{130, 2, 3, layout({5, 70, 1}, 1, 2)};
  compare(kernel<double>(CpuQueue(pool), c), reference<double>(c), kTolerance<double>);
}

TEST(AttentionKernel, NothingButPaddingIsZero) {
  static kernels::ThreadPool pool(2, false);
  for (const std::vector<Index>& lengths : {std::vector<Index>{}, {0, 0}}) {
    const Case c{4, 2, 5, layout(lengths, 0, 9)};
    for (const auto& values : kernel<float>(CpuQueue(pool), c)) {
      EXPECT_EQ(values, std::vector<float>(values.size(), 0.0f));
    }
  }
  const Case nothing{4, 2, 5, layout({}, 0, 0)};
  kernel<float>(CpuQueue(pool), nothing);
}

TEST(AttentionKernel, GreatScoresDoNotOverflow) {
  static kernels::ThreadPool pool(2, false);
  // Scores of some 1e4: rounding moves them by about 1e-12 in double, 1e-3 in float.
  const Case c{2, 1, 64, layout({3, 64, 130}, 2, 1), 1e4};
  const auto want = reference<double>(c);
  EXPECT_GT(want[1][5], 1e3);
  compare(kernel<double>(CpuQueue(pool), c), want, 1e-7);
  const auto got = kernel<float>(CpuQueue(pool), c);
  expect_close(got[0], want[0], 0.03, "out");
  for (const auto& values : got) {
    for (const float value : values) ASSERT_TRUE(std::isfinite(value));
  }
}

struct DecodeCase {
  Index shared_length;
  std::vector<std::int32_t> own_lengths;
  Index heads, kv_heads, head_dim;
};

/// Rows of decode, of whole sequences' last tokens in a forward pass of one document each.
template <class T>
void check_decode(const DecodeCase& c) {
  SCOPED_TRACE("shared " + std::to_string(c.shared_length) + ", heads " + std::to_string(c.heads) + "/" +
               std::to_string(c.kv_heads) + " x " + std::to_string(c.head_dim));
  const Index rows = static_cast<Index>(c.own_lengths.size());
  const Index width = c.heads * c.head_dim, kv_width = c.kv_heads * c.head_dim;
  const Index capacity = *std::max_element(c.own_lengths.begin(), c.own_lengths.end()) + 3;
  const DecodeShape shape{rows, c.shared_length, capacity, c.heads, c.kv_heads, c.head_dim, 0.3};
  const StridedMatrix<T> q(rows, width, 2, normal<T>(rows * width, 1));
  const auto shared_k = normal<T>(c.shared_length * kv_width, 2), shared_v = normal<T>(c.shared_length * kv_width, 3);
  const StridedMatrix<T> strided_k(c.shared_length, kv_width, 1, shared_k);
  const StridedMatrix<T> strided_v(c.shared_length, kv_width, 1, shared_v);
  Guarded<T> own_k(rows * capacity * kv_width), own_v(rows * capacity * kv_width);  // NaN after the own lengths
  std::vector<std::vector<T>> keys, values;
  for (Index r = 0; r < rows; ++r) {
    const Index own = c.own_lengths[static_cast<std::size_t>(r)] * kv_width;
    const auto k = normal<T>(own, 10 + static_cast<std::uint64_t>(r));
    const auto v = normal<T>(own, 90 + static_cast<std::uint64_t>(r));
    std::copy(k.begin(), k.end(), own_k.data() + r * capacity * kv_width);
    std::copy(v.begin(), v.end(), own_v.data() + r * capacity * kv_width);
    keys.push_back(shared_k);
    values.push_back(shared_v);
    keys.back().insert(keys.back().end(), k.begin(), k.end());
    values.back().insert(values.back().end(), v.begin(), v.end());
  }
  const auto decode = [&](const CpuQueue& queue, Index first, Index count) {
    DecodeShape part = shape;
    part.rows = count;
    StridedMatrix<T> out(count, width, 4);
    const Index at = first * capacity * kv_width;
    const kernels::Matrix<const T> all = q;
    kernels::attention_decode<CpuQueue, T>(queue, out.matrix(), {all.row(first), all.stride}, strided_k, strided_v,
                                           own_k.data() + at, own_v.data() + at, c.own_lengths.data() + first, part);
    EXPECT_TRUE(out.intact());
    return out.values();
  };
  const auto got =
      on_pools([&](const CpuQueue& queue) { return std::vector<std::vector<T>>{decode(queue, 0, rows)}; })[0];
  static kernels::ThreadPool pool(2, false);
  const CpuQueue queue(pool);
  for (Index r = 0; r < rows; ++r) {
    const std::vector<T> row(got.begin() + r * width, got.begin() + (r + 1) * width);
    EXPECT_EQ(decode(queue, r, 1), row) << "alone";
    const Index length = c.shared_length + c.own_lengths[static_cast<std::size_t>(r)];
    if (length == 0) {
      EXPECT_EQ(row, std::vector<T>(row.size(), T{0}));
      continue;
    }
    std::vector<T> queries(static_cast<std::size_t>((length - 1) * width)),
        out(static_cast<std::size_t>(length * width));
    const kernels::Matrix<const T> all = q;
    queries.insert(queries.end(), all.row(r), all.row(r) + width);
    const std::int32_t cu_seqlens[] = {0, static_cast<std::int32_t>(length)}, prefix = 1;
    kernels::attention_forward<CpuQueue, T>(queue, {out.data(), width}, nullptr, {queries.data(), width},
                                            {keys[static_cast<std::size_t>(r)].data(), kv_width},
                                            {values[static_cast<std::size_t>(r)].data(), kv_width}, cu_seqlens, &prefix,
                                            {length, 1, c.heads, c.kv_heads, c.head_dim, shape.scale});
    expect_close(row, doubles(std::vector<T>(out.end() - width, out.end())), kTolerance<T> / 4, "row");
  }
}

TEST(AttentionKernel, DecodeEqualsForwardOfTheWholeSequence) {
  const std::vector<std::int32_t> lengths = {1, 2, 31, 64, 65, 129, 200, 0};
  on_targets([&] {
    for (const DecodeCase& c : {DecodeCase{32, {7, 64, 1, 100}, 6, 1, 64},
                                {0, lengths, 4, 2, 5},
                                {1, lengths, 4, 4, 31},
                                {64, lengths, 1, 1, 80},
                                {65, {3}, 70, 1, 16},
                                {129, lengths, 6, 2, 1}}) {
      check_decode<float>(c);
      check_decode<double>(c);
    }
  });
}

}  // namespace
}  // namespace unfurl::tests
