#include "core/ops/attention.h"

#include <cmath>

#include "core/ops/add.h"
#include "tests/support/expect_error.h"
#include "tests/support/gradient_check.h"

namespace unfurl::tests {
namespace {

AttentionLayout layout(const std::vector<std::int32_t>& cu_seqlens, const std::vector<std::int32_t>& prefixes) {
  return {Tensor::from(cu_seqlens, {static_cast<Index>(cu_seqlens.size())}),
          Tensor::from(prefixes, {static_cast<Index>(prefixes.size())})};
}

/// Three documents, one of them empty, and two tokens of padding.
const std::vector<std::int32_t> kStarts = {0, 3, 3, 16}, kPrefixes = {1, 0, 5};
constexpr Index kTokens = 18;

/// q, k and v are slices of one projection; the output is a slice of a wider tensor.
std::vector<Tensor> joint(const Tensor& in, Index heads, Index kv_heads, Index head_dim) {
  const Tensor projection = copy(in);
  const Index width = heads * head_dim, kv_width = kv_heads * head_dim;
  const Tensor wide = Tensor::empty({kTokens, width + 2}, in.dtype());
  attention(projection.columns(0, width), projection.columns(width, width + kv_width),
            projection.columns(width + kv_width, width + 2 * kv_width), layout(kStarts, kPrefixes), heads, kv_heads,
            0.4, wide.columns(2, width + 2));
  return {copy(wide.columns(2, width + 2))};
}

/// The same by its meaning: a matrix of scores, an explicit mask, softmax of its rows, and their adjoints.
std::vector<Tensor> elementary(const Tensor& in, Index heads, Index kv_heads, Index head_dim) {
  const Index width = heads * head_dim, kv_width = kv_heads * head_dim;
  std::vector<double> mask(kTokens * kTokens, -INFINITY);
  for (std::size_t d = 0; d + 1 < kStarts.size(); ++d) {
    for (Index i = kStarts[d]; i < kStarts[d + 1]; ++i) {
      for (Index j = kStarts[d]; j < kStarts[d + 1]; ++j) {
        if (j <= i || j < kStarts[d] + kPrefixes[d]) mask[static_cast<std::size_t>(i * kTokens + j)] = 0;
      }
    }
  }
  const auto probabilities = [=](Index h) {
    std::vector<double> p = mask;
    for (Index i = 0; i < kTokens; ++i) {
      double* row = p.data() + i * kTokens;
      double sum = 0;
      for (Index j = 0; j < kTokens; ++j) {
        const double* q = in.data<double>() + i * in.cols() + h * head_dim;
        const double* k = in.data<double>() + j * in.cols() + width + h / (heads / kv_heads) * head_dim;
        double dot = 0;
        for (Index c = 0; c < head_dim; ++c) dot += q[c] * k[c];
        sum += row[j] = std::exp(0.4 * dot + row[j]);
      }
      for (Index j = 0; j < kTokens && sum > 0; ++j) row[j] /= sum;
    }
    return p;
  };
  const Tensor out = Tensor::zeros({kTokens, width}, DType::f64);
  for (Index h = 0; h < heads; ++h) {
    const auto p = probabilities(h);
    const Index v = width + kv_width + h / (heads / kv_heads) * head_dim;
    for (Index i = 0; i < kTokens; ++i) {
      for (Index j = 0; j < kTokens; ++j) {
        for (Index c = 0; c < head_dim; ++c) {
          out.data<double>()[i * width + h * head_dim + c] +=
              p[static_cast<std::size_t>(i * kTokens + j)] * in.data<double>()[j * in.cols() + v + c];
        }
      }
    }
  }
  record("elementary attention", {in}, {out}, [=](Backward& backward) {
    const Tensor sum = Tensor::zeros(in.shape(), DType::f64);
    const double *x = in.data<double>(), *dout = backward.cotangent(0).data<double>();
    double* dx = sum.data<double>();
    for (Index h = 0; h < heads; ++h) {
      const auto p = probabilities(h);
      const Index k = width + h / (heads / kv_heads) * head_dim, v = k + kv_width;
      for (Index i = 0; i < kTokens; ++i) {
        const double* dy = dout + i * width + h * head_dim;
        std::vector<double> dp(kTokens);
        double mean = 0;
        for (Index j = 0; j < kTokens; ++j) {
          const double weight = p[static_cast<std::size_t>(i * kTokens + j)];
          for (Index c = 0; c < head_dim; ++c) {
            dp[static_cast<std::size_t>(j)] += dy[c] * x[j * in.cols() + v + c];
            dx[j * in.cols() + v + c] += weight * dy[c];
          }
          mean += weight * dp[static_cast<std::size_t>(j)];
        }
        for (Index j = 0; j < kTokens; ++j) {
          const double ds =
              0.4 * p[static_cast<std::size_t>(i * kTokens + j)] * (dp[static_cast<std::size_t>(j)] - mean);
          for (Index c = 0; c < head_dim; ++c) {
            dx[i * in.cols() + h * head_dim + c] += ds * x[j * in.cols() + k + c];
            dx[j * in.cols() + k + c] += ds * x[i * in.cols() + h * head_dim + c];
          }
        }
      }
    }
    backward.pass(0, sum);
  });
  return {out};
}

struct Case {
  Index heads, kv_heads, head_dim;
  Index joint_width() const { return (heads + 2 * kv_heads) * head_dim; }
};
const Case kCases[] = {{1, 1, 1}, {4, 4, 5}, {4, 2, 3}, {6, 1, 8}, {1, 1, 31}};

TEST(Attention, GradientsAreThoseOfDifferences) {
  for (const Case& c : kCases) {
    check_gradients([&](const auto& in) { return joint(in[0], c.heads, c.kv_heads, c.head_dim); },
                    {normal_tensor({kTokens, c.joint_width()}, 1)});
    const Index width = c.heads * c.head_dim, kv_width = c.kv_heads * c.head_dim;
    check_gradients(
        [&](const auto& in) {
          return std::vector{attention(in[0], in[1], in[2], layout(kStarts, kPrefixes), c.heads, c.kv_heads, 0.4)};
        },
        {normal_tensor({kTokens, width}, 1), normal_tensor({kTokens, kv_width}, 2),
         normal_tensor({kTokens, kv_width}, 3)});
  }
}

TEST(Attention, GradientsOfDocumentsOfSeveralTiles) {
  const AttentionLayout packed = layout({0, 70, 71, 201}, {9, 1, 0});
  check_gradients([&](const auto& in) { return std::vector{attention(in[0], in[1], in[2], packed, 2, 1, 0.7)}; },
                  {normal_tensor({203, 10}, 1), normal_tensor({203, 5}, 2), normal_tensor({203, 5}, 3)},
                  {.samples = 10});
}

TEST(Attention, EqualsItsElementaryForm) {
  for (const Case& c : kCases) {
    expect_same_function([&](const auto& in) { return joint(in[0], c.heads, c.kv_heads, c.head_dim); },
                         [&](const auto& in) { return elementary(in[0], c.heads, c.kv_heads, c.head_dim); },
                         {normal_tensor({kTokens, c.joint_width()}, 1)});
  }
}

TEST(Attention, SomeInputsMayBeConstants) {
  const Tensor q = normal_tensor({kTokens, 12}, 1), k = normal_tensor({kTokens, 6}, 2);
  const Tensor v = normal_tensor({kTokens, 6}, 3);
  const AttentionLayout packed = layout(kStarts, kPrefixes);
  check_gradients([&](const auto& in) { return std::vector{attention(in[0], k, v, packed, 4, 2, 1)}; }, {q});
  check_gradients([&](const auto& in) { return std::vector{attention(q, k, in[0], packed, 4, 2, 1)}; }, {v});
  // Keys that are the values too: their gradients add up.
  check_gradients([&](const auto& in) { return std::vector{attention(q, in[0], in[0], packed, 4, 2, 1)}; }, {k});
}

TEST(Attention, AllocatesOnlyOnMeta) {
  const Tensor q = Tensor::empty({8, 6}, DType::f32, Device::meta), k = Tensor::empty({8, 3}, DType::f32, Device::meta);
  const AttentionLayout packed = {Tensor::empty({3}, DType::i32, Device::meta),
                                  Tensor::empty({2}, DType::i32, Device::meta)};
  EXPECT_EQ(attention(q, k, k, packed, 2, 1, 1).shape(), q.shape());
}

TEST(Attention, NamesWhatDoesNotFit) {
  const Tensor q = normal_tensor({8, 6}, 1), k = normal_tensor({8, 3}, 2);
  const auto error = [&](const Tensor& keys, const AttentionLayout& packed, Index heads) {
    return error_of([&] { attention(q, keys, k, packed, heads, 1, 1); });
  };
  const AttentionLayout good = layout({0, 5, 8}, {0, 3});
  EXPECT_EQ(error(q, good, 2), "attention: k must be f64 [8, 3], got f64 [8, 6]");
  EXPECT_EQ(error({}, good, 2), "attention: k must be f64 [8, 3], got nothing []");
  EXPECT_EQ(error(k, good, 4), "attention: 4 heads, 1 for keys and values, do not divide a width of 6");
  EXPECT_EQ(error(k, {}, 2), "attention: cu_seqlens must be i32 [documents + 1], got []");
  EXPECT_EQ(error(k, layout({0, 5, 8}, {0}), 2), "attention: prefix_lengths must be i32 [2], got [1]");
  EXPECT_EQ(error(k, layout({0, 5, 9}, {0, 1}), 2),
            "attention: cu_seqlens must lead from 0 to at most 8 tokens, got 0 to 9");
  EXPECT_EQ(error(k, layout({0, 9, 8}, {0, 0}), 2), "attention: cu_seqlens must not decrease, got 8 after 9");
  EXPECT_EQ(error(k, layout({0, 5, 8}, {0, 4}), 2), "attention: prefix 4 of document 1 must be in [0, 3]");
  EXPECT_EQ(error_of([&] { attention(q, k, k, good, 2, 1, 1, k); }),
            "attention: destination must be f64 [8, 6], got f64 [8, 3]");
  AttentionLayout by_cudnn = good;
  by_cudnn.cudnn_longest = 5;
  EXPECT_EQ(error(k, by_cudnn, 2),
            "attention: cuDNN computes it on a GPU in bf16 with heads of 64 or 128 elements, got heads of 3 in f64 on "
            "cpu");
}

}  // namespace
}  // namespace unfurl::tests
