// Attention against plain softmax attention in double with an explicit mask, and its analytic adjoint: odd head
// dimensions, document lengths around the tiles' edges, every kind of prefix, slices of one joint matrix, padding.
#include "kernels/attention.h"

#include <cmath>

#include "tests/support/backends.h"

namespace unfurl::tests {
namespace {

using kernels::AttentionShape;

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
  double size = 1;      // of the queries
  bool aligned = true;  // rows start at multiples of 16 bytes
  bool backward = true;

  Index width() const { return heads * head_dim; }
  Index kv_width() const { return kv_heads * head_dim; }
  AttentionShape shape() const {
    return {layout.tokens, layout.documents(), heads,
            kv_heads,      head_dim,           1.25 / std::sqrt(static_cast<double>(head_dim))};
  }
  std::string name() const {
    return testing::PrintToString(heads) + "/" + testing::PrintToString(kv_heads) + " heads of " +
           testing::PrintToString(head_dim) + (aligned ? "" : ", not aligned") + ", lengths up to " +
           testing::PrintToString(layout.cu_seqlens);
  }
};

template <class T>
struct Inputs {
  explicit Inputs(const Case& c)
      : q(normal<T>(c.layout.tokens * c.width(), 1, c.size)),
        k(normal<T>(c.layout.tokens * c.kv_width(), 2)),
        v(normal<T>(c.layout.tokens * c.kv_width(), 3)),
        dout(normal<T>(c.layout.tokens * c.width(), 4)) {}
  std::vector<T> q, k, v, dout;
};

/// By definition, in S; what an operation of its own would store in T is rounded to it: scores, probabilities, their
/// gradients, and what is left in the end: out, lse, dq, dk, dv.
template <class S, class T>
Results formula(const Case& c, const Inputs<T>& in) {
  const AttentionShape shape = c.shape();
  const auto in_s = [](const std::vector<double>& values) { return std::vector<S>(values.begin(), values.end()); };
  const auto q = in_s(doubles(in.q)), k = in_s(doubles(in.k)), v = in_s(doubles(in.v)), dout = in_s(doubles(in.dout));
  const auto round = [](S value) {
    return std::is_same_v<S, double> ? value : static_cast<S>(rounded<T>(static_cast<double>(value)));
  };
  const S scale = static_cast<S>(shape.scale);
  const auto dim = static_cast<std::size_t>(c.head_dim);
  std::vector<S> out(q.size()), dq(q.size()), dk(k.size()), dv(v.size());
  std::vector<double> lse(static_cast<std::size_t>(c.heads * shape.tokens));
  const auto dot = [&](const S* a, const S* b) {
    S sum = 0;
    for (std::size_t x = 0; x < dim; ++x) sum += a[x] * b[x];
    return sum;
  };
  for (Index d = 0; d < shape.documents; ++d) {
    const Index begin = c.layout.cu_seqlens[static_cast<std::size_t>(d)];
    const Index end = c.layout.cu_seqlens[static_cast<std::size_t>(d + 1)];
    const Index prefix_end = begin + c.layout.prefixes[static_cast<std::size_t>(d)];
    for (Index h = 0; h < c.heads; ++h) {
      const Index column = h * c.head_dim, kv_column = h / (c.heads / c.kv_heads) * c.head_dim;
      for (Index i = begin; i < end; ++i) {
        const auto at_q = static_cast<std::size_t>(i * c.width() + column);
        const auto at_k = [&](Index j) { return static_cast<std::size_t>(j * c.kv_width() + kv_column); };
        const Index last = std::max(i + 1, prefix_end);
        std::vector<S> p(static_cast<std::size_t>(last - begin));
        S greatest = -INFINITY, sum = 0;
        for (Index j = begin; j < last; ++j) {
          S& score = p[static_cast<std::size_t>(j - begin)];
          score = round(scale * dot(&q[at_q], &k[at_k(j)]));
          greatest = std::max(greatest, score);
        }
        for (S& score : p) sum += score = std::exp(score - greatest);
        lse[static_cast<std::size_t>(h * shape.tokens + i)] = greatest + std::log(sum);
        for (Index j = begin; j < last; ++j) {
          S& weight = p[static_cast<std::size_t>(j - begin)];
          weight = round(weight / sum);
          for (std::size_t x = 0; x < dim; ++x) out[at_q + x] += weight * v[at_k(j) + x];
        }
        for (std::size_t x = 0; x < dim; ++x) out[at_q + x] = round(out[at_q + x]);
        if (!c.backward) continue;
        // From the last to the first: where a row sees one key, this sum and the one it is taken from are equal, and
        // in one order they would cancel to the last bit, as they do in no kernel that shares its work among lanes.
        S delta = 0;
        for (std::size_t x = dim; x-- > 0;) delta += dout[at_q + x] * out[at_q + x];
        for (Index j = begin; j < last; ++j) {
          const S weight = p[static_cast<std::size_t>(j - begin)];
          const S ds = round(scale * weight * (round(dot(&dout[at_q], &v[at_k(j)])) - delta));
          for (std::size_t x = 0; x < dim; ++x) {
            dq[at_q + x] += ds * k[at_k(j) + x];
            dk[at_k(j) + x] += ds * q[at_q + x];
            dv[at_k(j) + x] += weight * dout[at_q + x];
          }
        }
      }
    }
  }
  Results results = {doubles(out), lse, doubles(dq), doubles(dk), doubles(dv)};
  for (const std::size_t i : {2, 3, 4}) {
    for (double& value : results[i]) value = static_cast<double>(round(static_cast<S>(value)));
  }
  return results;
}

/// The columns [column, column + cols) of a matrix [rows, width].
std::vector<double> columns(const std::vector<double>& matrix, Index width, Index column, Index cols) {
  std::vector<double> out;
  for (auto row = matrix.begin(); row != matrix.end(); row += width) {
    out.insert(out.end(), row + column, row + column + cols);
  }
  return out;
}

/// What the kernels make of it: out, lse, dq, dk, dv. q, k, v are slices of one matrix, as a joint projection leaves
/// them, their gradients of another; out is a slice that starts after columns that are not ours.
template <class Queue, class T>
Results run(const Queue& queue, const Case& c, const Inputs<T>& in) {
  using Sum = kernels::Accumulator<T>;
  using Strided = StridedMatrix<T, Queue>;
  const AttentionShape shape = c.shape();
  const Index tokens = shape.tokens, joint_width = c.width() + 2 * c.kv_width(), beside = c.aligned ? 8 : 1;
  const Index k_column = c.width(), v_column = c.width() + c.kv_width();
  std::vector<T> joined;
  for (Index r = 0; r < tokens; ++r) {
    joined.insert(joined.end(), in.q.begin() + r * c.width(), in.q.begin() + (r + 1) * c.width());
    joined.insert(joined.end(), in.k.begin() + r * c.kv_width(), in.k.begin() + (r + 1) * c.kv_width());
    joined.insert(joined.end(), in.v.begin() + r * c.kv_width(), in.v.begin() + (r + 1) * c.kv_width());
  }
  Strided joint(queue, tokens, joint_width, c.aligned ? 8 : 3, joined);
  Strided joint_gradient(queue, tokens, joint_width, c.aligned ? 16 : 5), wide(queue, tokens, beside + c.width(), 8);
  if (c.aligned) {
    wide = Strided(queue, tokens, beside + c.width(), (8 - c.width() % 8) % 8 + 8);
    joint = Strided(queue, tokens, joint_width, (8 - joint_width % 8) % 8 + 8, joined);
    joint_gradient = Strided(queue, tokens, joint_width, (8 - joint_width % 8) % 8 + 16);
  }
  const Strided dout(queue, tokens, c.width(), c.aligned ? (8 - c.width() % 8) % 8 : 1, in.dout);
  Guarded<Sum, Queue> lse(queue, c.heads * tokens);
  const Guarded<std::int32_t, Queue> cu_seqlens(queue, c.layout.cu_seqlens), prefixes(queue, c.layout.prefixes);
  const auto slice = [](Strided& matrix, Index column) {
    return kernels::Matrix<T>{matrix.matrix().data + column, matrix.matrix().stride};
  };
  const auto out = slice(wide, beside), q = slice(joint, 0), k = slice(joint, k_column), v = slice(joint, v_column);
  kernels::attention_forward<Queue, T>(queue, out, lse.data(), q, k, v, cu_seqlens.data(), prefixes.data(), shape);
  if (!c.backward)
    return {columns(doubles(wide.values()), beside + c.width(), beside, c.width()), doubles(lse.values())};
  kernels::attention_backward<Queue, T>(queue, slice(joint_gradient, 0), slice(joint_gradient, k_column),
                                        slice(joint_gradient, v_column), dout, out, lse.data(), q, k, v,
                                        cu_seqlens.data(), prefixes.data(), shape);
  EXPECT_TRUE(joint.intact() && joint_gradient.intact() && wide.intact() && lse.intact());
  const auto wide_values = doubles(wide.values()), gradients = doubles(joint_gradient.values());
  for (const double value : columns(wide_values, beside + c.width(), 0, beside)) {
    EXPECT_TRUE(std::isnan(value)) << "wrote beside a row";
  }
  return {columns(wide_values, beside + c.width(), beside, c.width()), doubles(lse.values()),
          columns(gradients, joint_width, 0, c.width()), columns(gradients, joint_width, k_column, c.kv_width()),
          columns(gradients, joint_width, v_column, c.kv_width())};
}

constexpr double kTolerance = 1e-13;  // of double

template <class Queue, class T>
void check(const Case& c, double tolerance = kTolerance) {
  SCOPED_TRACE(c.name());
  const Inputs<T> in(c);
  const Results got = on_queues<Queue>([&](const Queue& queue) { return run<Queue, T>(queue, c, in); });
  const Results exact = formula<double, T>(c, in);
  Results plain(5);
  if constexpr (!std::is_same_v<Queue, kernels::CpuQueue>) plain = formula<float, T>(c, in);
  const char* names[] = {"out", "lse", "dq", "dk", "dv"};
  for (std::size_t i = 0; i < got.size(); ++i) {
    if (std::is_same_v<Queue, kernels::CpuQueue> && std::is_same_v<T, float>) {
      expect_close(got[i], exact[i], 1e-5, names[i]);  // quick exponentials: not held to twice the plain error
    } else {
      expect_matches<T>(got[i], exact[i], plain[i], tolerance, names[i]);
    }
  }
}

void check_all(const Case& c) {
  on_backends([&]<class Queue, class T>() { check<Queue, T>(c); });
}

// Around the edges of every tile, and no two documents on the same side of one.
const std::vector<Index> kLengths = {0, 1, 2, 31, 32, 33, 63, 64, 0, 65, 127, 129, 0};
// Longer than what any kernel has in flight.
const std::vector<Index> kLong = {5, 333, 17, 140};

TEST(AttentionKernel, OneHead) {
  for (const Index head_dim : {1, 31, 80}) check_all({1, 1, head_dim, layout(kLengths, head_dim, 7)});
  for (const Index head_dim : {64, 128}) check_all({1, 1, head_dim, layout(kLengths, head_dim + 1, 9)});
}

TEST(AttentionKernel, ManyHeads) {
  check_all({3, 3, 5, layout({31, 33, 0, 65, 2}, 1, 0)});
  check_all({2, 2, 64, layout(kLengths, 2, 3)});
}

TEST(AttentionKernel, GroupedQuery) {
  check_all({4, 2, 31, layout({65, 3, 40}, 1, 0)});
  check_all({4, 2, 128, layout({40, 65, 3, 129}, 2, 3)});
}

TEST(AttentionKernel, MultiQuery) {
  check_all({6, 1, 16, layout({33, 0, 64, 31}, 0, 7)});
  check_all({5, 1, 64, layout({17, 150, 0, 66, 31}, 3, 1)});
}

// A block of the short form takes several of them at a time, and not all that it owns.
TEST(AttentionKernel, ManyShortDocuments) {
  check_all({3, 1, 64, layout({7, 19, 3, 30, 0, 1, 12, 90, 5, 14, 128, 2, 40, 40, 40}, 2, 5)});
  check_all({1, 1, 128, layout({60, 100, 2, 20, 1, 1, 9, 50, 60}, 0, 1)});
  // Of the first documents that a block takes, some warps have no rows: they are at the next while others compute. The
  // first two have one key more than fit together.
  check_all({2, 1, 64, layout({47, 82, 20}, 3, 0)});
  check_all({2, 1, 128, layout({47, 128, 20}, 3, 0)});
}

/// For the kernels on tensor cores alone; the others know no such lengths.
void check_bf16(const Case& c) {
  on_backends([&]<class Queue, class T>() {
    if constexpr (std::is_same_v<T, bf16>) check<Queue, T>(c);
  });
}

// Around the edges of the form for documents of middle length, among shorter and longer ones, of every kind of prefix.
TEST(AttentionKernel, MiddleDocuments) {
  for (const Index head_dim : {64, 128}) {
    check_bf16({1, 1, head_dim, layout({127, 128, 129, 255, 256, 257}, 0, 3)});
    check_bf16({3, 1, head_dim, layout({129, 0, 5, 150}, 1, 1)});
    check_bf16({2, 2, head_dim, layout({20, 256}, 3, 0)});
    check_bf16({4, 2, head_dim, layout({3, 139}, 1, 2)});
  }
}

#if defined(UNFURL_HOST_CUDA)
// As on an sm_80, where documents of middle length and heads of 128 are not done whole.
TEST(AttentionKernel, MiddleDocumentsInLittleSharedMemory) {
  for (const Index head_dim : {64, 128}) {
    const Case c{2, 1, head_dim, layout({20, 200, 150, 300}, 2, 1)};
    const Inputs<bf16> in(c);
    const Results got = run(kernels::HostCudaQueue(0, 163 << 10), c, in);
    const Results exact = formula<double, bf16>(c, in), plain = formula<float, bf16>(c, in);
    for (std::size_t i = 0; i < got.size(); ++i) {
      expect_matches<bf16>(got[i], exact[i], plain[i], kTolerance, std::to_string(i));
    }
  }
}
#endif

TEST(AttentionKernel, RowsThatVectorsCannotRead) {
  check_all({3, 1, 64, layout({65, 3, 40}, 3, 2), 1, false});
  check_all({2, 2, 128, layout({33, 1}, 0, 2), 1, false});
}

TEST(AttentionKernel, HeadsWiderThanABlocksColumns) { check_all({2, 1, 200, layout({70, 3, 33}, 0, 1)}); }

TEST(AttentionKernel, EveryPrefixOfEveryLength) {
  for (Index kind = 0; kind < 4; ++kind) {
    check_all({3, 1, 16, layout({33, 1, 65, 2, 31}, kind, kind)});
    check_all({2, 1, 64, layout({63, 31, 1, 65, 127, 2, 33}, kind, kind)});
  }
  check_bf16({1, 1, 64, layout({33, 80}, 2, 0)});  // its keys begin one behind those that are loaded together
}

TEST(AttentionKernel, LongDocuments) {
  check_all({1, 1, 64, layout(kLong, 0, 7)});
  check_all({2, 1, 128, layout({320, 5}, 2, 0)});
  check_all({1, 1, 9, layout(kLong, 1, 1)});
}

TEST(AttentionKernel, MoreHeadsThanATileHasRows) {
  check_all({130, 2, 3, layout({5, 10, 1}, 1, 2)});
  check_all({70, 1, 64, layout({5, 8, 1}, 1, 2)});
}

TEST(AttentionKernel, NothingButPaddingIsZero) {
  for (const Index head_dim : {5, 64}) {
    for (const std::vector<Index>& lengths : {std::vector<Index>{}, {0, 0}}) {
      check_all({4, 2, head_dim, layout(lengths, 0, 9)});
    }
    check_all({4, 2, head_dim, layout({}, 0, 0)});
  }
}

TEST(AttentionKernel, GreatScoresDoNotOverflow) {
  // Scores of some 1e4: rounding moves them by about 1e-12 in double, 1e-3 in float.
  const Case c{2, 1, 64, layout({3, 64, 130}, 2, 1), 1e4};
  on_backends([&]<class Queue, class T>() {
    if constexpr (std::is_same_v<T, double>) {
      check<Queue, T>(c, 1e-7);
    } else {
      const Inputs<T> in(c);
      const Results got = on_queues<Queue>([&](const Queue& queue) { return run<Queue, T>(queue, c, in); });
      const Results want = formula<double, T>(c, in);
      EXPECT_GT(want[1][5], 1e3);
      expect_close(got[0], want[0], 0.03, "out");
      for (const auto& values : got) {
        for (const double value : values) ASSERT_TRUE(std::isfinite(value));
      }
    }
  });
}

template <class Queue>
void check_without_lse() {
  const Case c{2, 1, 8, layout({40, 3}, 2, 1)};
  const auto q = normal<float>(c.layout.tokens * 16, 1), k = normal<float>(c.layout.tokens * 8, 2);
  const Results results = on_queues<Queue>([&](const Queue& queue) {
    const Guarded<std::int32_t, Queue> cu_seqlens(queue, c.layout.cu_seqlens), prefixes(queue, c.layout.prefixes);
    const StridedMatrix<float, Queue> q_in(queue, c.layout.tokens, 16, 0, q), k_in(queue, c.layout.tokens, 8, 0, k);
    StridedMatrix<float, Queue> with(queue, c.layout.tokens, 16, 0), without(queue, c.layout.tokens, 16, 0);
    Guarded<float, Queue> lse(queue, 2 * c.layout.tokens);
    kernels::attention_forward<Queue, float>(queue, with.matrix(), lse.data(), q_in, k_in, k_in, cu_seqlens.data(),
                                             prefixes.data(), c.shape());
    kernels::attention_forward<Queue, float>(queue, without.matrix(), nullptr, q_in, k_in, k_in, cu_seqlens.data(),
                                             prefixes.data(), c.shape());
    return Results{doubles(with.values()), doubles(without.values())};
  });
  EXPECT_EQ(results[0], results[1]);
}

TEST(AttentionKernel, LseMayBeLeftOut) {
  on_backends([]<class Queue, class T>() {
    if constexpr (std::is_same_v<T, float>) check_without_lse<Queue>();
  });
}

// So many rows that a block of the forward kernel takes several tiles of them, which find keys there or have to read
// them again.
TEST(AttentionKernel, BlocksTakeSeveralTilesOfRows) {
  on_backends([]<class Queue, class T>() {
    if constexpr (std::is_same_v<T, bf16>) {
      check<Queue, T>({105, 1, 64, layout({12, 310}, 0, 3), 1, true, false});  // and tiles of nothing but padding
      check<Queue, T>({264, 1, 128, layout({40, 3, 72, 12, 1}, 1, 0), 1, true, false});
    }
  });
}

#if defined(UNFURL_HOST_CUDA)
TEST(AttentionKernel, TilesHaveNoBankConflicts) {
  for (const Index head_dim : {64, 128}) {
    const Case c{3, 1, head_dim, layout({90, 3, 70, 140, 270}, 1, 5)};
    const auto before = kernels::host::statistics();
    run<kernels::HostCudaQueue, bf16>(kernels::HostCudaQueue(), c, Inputs<bf16>(c));
    const auto after = kernels::host::statistics();
    EXPECT_GT(after.ldmatrix, before.ldmatrix);
    EXPECT_EQ(after.bank_conflicts, before.bank_conflicts);
  }
}
#endif

}  // namespace
}  // namespace unfurl::tests
