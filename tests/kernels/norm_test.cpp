// RMSNorm and LayerNorm against their formulas in double.
#include "kernels/layer_norm.h"
#include "kernels/rms_norm.h"
#include "tests/support/backends.h"

namespace unfurl::tests {
namespace {

using kernels::Matrix;
using Doubles = std::vector<double>;

constexpr float kEps = 1e-5f;

struct Case {
  MatrixShape shape;
  Index gap = 0;
  bool centered = false;
  bool residual = false;
  bool bias = false;
  bool ds = false;
  bool in_place = false;  // s over the residual, dx over ds
  bool parameters = true;
};

std::string text(const Case& c) {
  return text(c.shape) + " gap " + std::to_string(c.gap) + (c.centered ? " layer_norm" : " rms_norm") +
         (c.residual ? " residual" : "") + (c.bias ? " bias" : "") + (c.ds ? " ds" : "") +
         (c.in_place ? " in place" : "");
}

template <class S>
S mean_of(const Doubles& row) {
  S sum = 0;
  for (const double v : row) sum += static_cast<S>(v);
  return sum / static_cast<S>(row.size());
}

struct Forward {
  Doubles s, y, mean, rstd;
};

// In S; what is stored in T is rounded to it.
template <class S, class T>
Forward forward(const Case& c, const Doubles& x, const Doubles& residual, const Doubles& gain, const Doubles& bias) {
  const auto rows = static_cast<std::size_t>(c.shape.rows), cols = static_cast<std::size_t>(c.shape.cols);
  Forward out;
  for (std::size_t r = 0; r < rows; ++r) {
    Doubles s(cols), squares(cols);
    for (std::size_t i = 0; i < cols; ++i) {
      s[i] = x[r * cols + i];
      if (c.residual) s[i] = rounded<T>(static_cast<S>(s[i]) + static_cast<S>(residual[r * cols + i]));
    }
    const S mean = c.centered ? mean_of<S>(s) : S{0};
    for (std::size_t i = 0; i < cols; ++i) {
      const S v = static_cast<S>(s[i]) - mean;
      squares[i] = v * v;
    }
    const S rstd = 1 / std::sqrt(mean_of<S>(squares) + static_cast<S>(kEps));
    for (std::size_t i = 0; i < cols; ++i) {
      const S y = (static_cast<S>(s[i]) - mean) * rstd * static_cast<S>(gain[i]);
      out.y.push_back(rounded<T>(y + (c.bias ? static_cast<S>(bias[i]) : S{0})));
    }
    out.s.insert(out.s.end(), s.begin(), s.end());
    out.mean.push_back(mean);
    out.rstd.push_back(rstd);
  }
  return out;
}

struct Backward {
  Doubles dx, dgain, dbias;
};

template <class S, class T>
Backward backward(const Case& c, const Doubles& s, const Doubles& gain, const Doubles& dy, const Doubles& ds) {
  const auto rows = static_cast<std::size_t>(c.shape.rows), cols = static_cast<std::size_t>(c.shape.cols);
  Case plain = c;
  plain.residual = plain.bias = false;
  const Forward saved = forward<S, S>(plain, s, {}, gain, {});
  std::vector<S> dgain(cols, S(0.5)), dbias = dgain;
  Backward out;
  for (std::size_t r = 0; r < rows; ++r) {
    const S mean = static_cast<S>(saved.mean[r]), rstd = static_cast<S>(saved.rstd[r]);
    std::vector<S> xhat(cols), g(cols);
    Doubles gx(cols);
    for (std::size_t i = 0; i < cols; ++i) {
      const S cotangent = static_cast<S>(dy[r * cols + i]);
      xhat[i] = (static_cast<S>(s[r * cols + i]) - mean) * rstd;
      g[i] = cotangent * static_cast<S>(gain[i]);
      gx[i] = g[i] * xhat[i];
      dgain[i] += cotangent * xhat[i];
      dbias[i] += cotangent;
    }
    const S mean_g = c.centered ? mean_of<S>(Doubles(g.begin(), g.end())) : S{0}, mean_gx = mean_of<S>(gx);
    for (std::size_t i = 0; i < cols; ++i) {
      const S through_y = rstd * (g[i] - mean_g - xhat[i] * mean_gx);
      out.dx.push_back(rounded<T>((c.ds ? static_cast<S>(ds[r * cols + i]) : S{0}) + through_y));
    }
  }
  const Doubles untouched(cols, 0.5);
  out.dgain = c.parameters ? Doubles(dgain.begin(), dgain.end()) : untouched;
  out.dbias = c.parameters && c.bias ? Doubles(dbias.begin(), dbias.end()) : untouched;
  return out;
}

template <class Queue, class T>
void check(const Case& c) {
  using Sum = kernels::Accumulator<T>;
  SCOPED_TRACE(text(c));
  const Index rows = c.shape.rows, cols = c.shape.cols;
  const Index n = rows * cols;
  const std::vector<T> x = normal<T>(n, 1), residual = normal<T>(n, 2), gain = normal<T>(cols, 3);
  const std::vector<T> bias = normal<T>(cols, 4), dy = normal<T>(n, 5), ds = normal<T>(n, 6);
  const Results results = on_queues<Queue>([&](const Queue& queue) {
    using Strided = StridedMatrix<T, Queue>;
    const Guarded<T, Queue> gain_in(queue, gain), bias_in(queue, bias);
    const Strided x_in(queue, rows, cols, c.gap, x), residual_in(queue, rows, cols, c.gap, residual);
    const Strided dy_in(queue, rows, cols, c.gap, dy), ds_in(queue, rows, cols, c.gap, ds);
    Strided s = c.in_place ? residual_in : Strided(queue, rows, cols, c.gap);
    Strided y(queue, rows, cols, c.gap), dx = c.in_place ? ds_in : Strided(queue, rows, cols, c.gap);
    Guarded<Sum, Queue> mean(queue, rows), rstd(queue, rows);
    Guarded<Sum, Queue> dgain(queue, std::vector<Sum>(static_cast<std::size_t>(cols), Sum(0.5))), dbias = dgain;
    Matrix<const T> added, cotangent;
    if (c.residual) added = c.in_place ? Matrix<const T>(s.matrix()) : Matrix<const T>(residual_in);
    if (c.ds) cotangent = c.in_place ? Matrix<const T>(dx.matrix()) : Matrix<const T>(ds_in);
    const Matrix<const T> summed = c.residual ? Matrix<const T>(s.matrix()) : Matrix<const T>(x_in);
    Sum* const gain_out = c.parameters ? dgain.data() : nullptr;
    Sum* const bias_out = c.parameters && c.bias ? dbias.data() : nullptr;
    if (c.centered) {
      kernels::layer_norm_forward<Queue, T>(queue, y.matrix(), s.matrix(), mean.data(), rstd.data(), x_in, added,
                                            gain_in.data(), c.bias ? bias_in.data() : nullptr, rows, cols, kEps);
      kernels::layer_norm_backward<Queue, T>(queue, dx.matrix(), gain_out, bias_out, dy_in, cotangent, summed,
                                             gain_in.data(), mean.data(), rstd.data(), rows, cols);
    } else {
      kernels::rms_norm_forward<Queue, T>(queue, y.matrix(), s.matrix(), rstd.data(), x_in, added, gain_in.data(), rows,
                                          cols, kEps);
      kernels::rms_norm_backward<Queue, T>(queue, dx.matrix(), gain_out, dy_in, cotangent, summed, gain_in.data(),
                                           rstd.data(), rows, cols);
    }
    EXPECT_TRUE(s.intact() && y.intact() && dx.intact() && mean.intact() && rstd.intact() && dgain.intact() &&
                dbias.intact());
    return Results{doubles(y.values()),  doubles(s.values()),     doubles(mean.values()), doubles(rstd.values()),
                   doubles(dx.values()), doubles(dgain.values()), doubles(dbias.values())};
  });
  // A row of one: dx is a small difference of large terms, multiplied by rstd = 1 / sqrt(eps) at worst.
  const double loose = cols == 1 ? 1e3 : 10, sums = 10 * std::sqrt(static_cast<double>(rows));
  const auto formula_forward = [&]<class S, class R>() {
    return forward<S, R>(c, doubles(x), doubles(residual), doubles(gain), doubles(bias));
  };
  const Forward exact = formula_forward.template operator()<double, double>();
  const Forward plain = formula_forward.template operator()<float, T>();
  expect_matches<T>(results[0], exact.y, plain.y, tolerance<double>(loose), "y");
  if (c.residual) expect_matches<T>(results[1], exact.s, plain.s, tolerance<double>(), "s");
  if (c.centered) expect_matches<T>(results[2], exact.mean, plain.mean, tolerance<double>(10), "mean");
  expect_matches<T>(results[3], exact.rstd, plain.rstd, tolerance<double>(10), "rstd");
  const Doubles s = c.residual ? results[1] : doubles(x);  // what backward has seen
  const Backward exact_gradient = backward<double, double>(c, s, doubles(gain), doubles(dy), doubles(ds));
  const Backward plain_gradient = backward<float, T>(c, s, doubles(gain), doubles(dy), doubles(ds));
  if (cols > 1) {
    expect_matches<T>(results[4], exact_gradient.dx, plain_gradient.dx, tolerance<double>(loose), "dx");
  } else {  // without many elements, how wrong the plain computation happens to be says nothing
    expect_close(results[4], exact_gradient.dx, tolerance<Sum>(loose), "dx");
  }
  expect_matches<T>(results[5], exact_gradient.dgain, plain_gradient.dgain, tolerance<double>(sums), "dgain");
  expect_matches<T>(results[6], exact_gradient.dbias, plain_gradient.dbias, tolerance<double>(sums), "dbias");
}

void check_all(const Case& c) {
  on_backends([&]<class Queue, class T>() { check<Queue, T>(c); });
}

TEST(NormKernels, EqualTheFormula) {
  for (const MatrixShape& shape : odd_shapes()) {
    for (const bool centered : {false, true}) {
      check_all({shape, 0, centered});
      check_all({shape, 3, centered, true, centered, true});
    }
  }
}

// Widths that the vectors of every kernel divide, strides too, up to the widest that each keeps in registers.
TEST(NormKernels, EqualTheFormulaWhereVectorsFit) {
  for (const MatrixShape& shape : {MatrixShape{9, 8}, {13, 384}, {5, 1032}, {6, 2048}, {3, 4096}, {2, 8200}}) {
    for (const bool centered : {false, true}) check_all({shape, 8, centered, true, centered, true});
  }
}

// More groups of rows than blocks, so that a block adds up several.
TEST(NormKernels, ManyRowsAddUp) {
  for (const bool centered : {false, true}) check_all({{2600, 16}, 0, centered, false, centered});
}

TEST(NormKernels, WorkInPlaceAndWithoutParameterGradients) {
  for (const bool centered : {false, true}) {
    check_all({{33, 65}, 2, centered, true, centered, true, true});
    check_all({{129, 129}, 0, centered, true, false, true, true});
    check_all({{21, 136}, 8, centered, true, false, true, true});
    check_all({{5, 48}, 0, centered, true, centered, false, false, false});
  }
}

TEST(NormKernels, BlocksOfRowsStayFewWhereRowsAreWide) { check_all({{65, 9000}}); }

TEST(NormKernels, NoRowsTouchNothing) {
  check_all({{0, 33}});
  check_all({{0, 33}, 0, true, true, true, true});
}

// The variance is taken around the mean, so a large mean does not eat the digits.
template <class Queue>
void check_large_mean() {
  const Index cols = 256;
  std::vector<float> x = normal<float>(cols, 9);
  for (float& v : x) v += 4096;
  const std::vector<float> gain(static_cast<std::size_t>(cols), 1.0f);
  const Case c{{1, cols}, 0, true};
  const Results results = on_queues<Queue>([&](const Queue& queue) {
    const Guarded<float, Queue> gain_in(queue, gain);
    const StridedMatrix<float, Queue> x_in(queue, 1, cols, 0, x);
    StridedMatrix<float, Queue> y(queue, 1, cols, 0);
    Guarded<float, Queue> mean(queue, 1), rstd(queue, 1);
    kernels::layer_norm_forward<Queue, float>(queue, y.matrix(), {}, mean.data(), rstd.data(), x_in, {}, gain_in.data(),
                                              nullptr, 1, cols, kEps);
    return Results{doubles(y.values())};
  });
  expect_close(results[0], forward<double, double>(c, doubles(x), {}, doubles(gain), {}).y, 1e-3, "y");
}

TEST(NormKernels, LayerNormKeepsItsDigitsUnderALargeMean) {
  on_backends([]<class Queue, class T>() {
    if constexpr (std::is_same_v<T, float>) check_large_mean<Queue>();
  });
}

}  // namespace
}  // namespace unfurl::tests
