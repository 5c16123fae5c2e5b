// RMSNorm and LayerNorm against their formulas in double.
#include <optional>

#include "kernels/layer_norm.h"
#include "kernels/rms_norm.h"
#include "tests/support/matrix.h"

namespace unfurl::tests {
namespace {

using kernels::CpuQueue;
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

struct Reference {
  Doubles s, y, mean, rstd, dx, dgain, dbias;
};

Reference reference(const Case& c, const Doubles& x, const Doubles& residual, const Doubles& gain, const Doubles& bias,
                    const Doubles& dy, const Doubles& ds) {
  const auto rows = static_cast<std::size_t>(c.shape.rows), cols = static_cast<std::size_t>(c.shape.cols);
  Reference out;
  out.s = x;
  out.y = out.dx = x;
  out.dgain = out.dbias = Doubles(cols, 0.5);
  for (std::size_t r = 0; r < rows; ++r) {
    double* s = &out.s[r * cols];
    double mean = 0, var = 0, mean_g = 0, mean_gx = 0;
    for (std::size_t i = 0; i < cols; ++i) s[i] += c.residual ? residual[r * cols + i] : 0;
    for (std::size_t i = 0; i < cols; ++i) mean += c.centered ? s[i] / static_cast<double>(cols) : 0;
    for (std::size_t i = 0; i < cols; ++i) var += (s[i] - mean) * (s[i] - mean) / static_cast<double>(cols);
    const double rstd = 1 / std::sqrt(var + static_cast<double>(kEps));
    for (std::size_t i = 0; i < cols; ++i) {
      const double xhat = (s[i] - mean) * rstd, g = dy[r * cols + i] * gain[i];
      out.y[r * cols + i] = xhat * gain[i] + (c.bias ? bias[i] : 0);
      mean_g += c.centered ? g / static_cast<double>(cols) : 0;
      mean_gx += g * xhat / static_cast<double>(cols);
      out.dgain[i] += dy[r * cols + i] * xhat;
      out.dbias[i] += dy[r * cols + i];
    }
    for (std::size_t i = 0; i < cols; ++i) {
      const double xhat = (s[i] - mean) * rstd, g = dy[r * cols + i] * gain[i];
      out.dx[r * cols + i] = (c.ds ? ds[r * cols + i] : 0) + rstd * (g - mean_g - xhat * mean_gx);
    }
    out.mean.push_back(mean);
    out.rstd.push_back(rstd);
  }
  return out;
}

template <class T>
void check(const Case& c) {
  SCOPED_TRACE(text(c));
  const auto [rows, cols] = c.shape;
  const Index n = rows * cols;
  const std::vector<T> x = normal<T>(n, 1), residual = normal<T>(n, 2), gain = normal<T>(cols, 3);
  const std::vector<T> bias = normal<T>(cols, 4), dy = normal<T>(n, 5), ds = normal<T>(n, 6);
  const auto results = on_pools([&](const CpuQueue& queue) {
    const Guarded<T> gain_in(gain), bias_in(bias);
    const StridedMatrix<T> x_in(rows, cols, c.gap, x), residual_in(rows, cols, c.gap, residual);
    const StridedMatrix<T> dy_in(rows, cols, c.gap, dy), ds_in(rows, cols, c.gap, ds);
    StridedMatrix<T> s = c.in_place ? residual_in : StridedMatrix<T>(rows, cols, c.gap);
    StridedMatrix<T> y(rows, cols, c.gap), dx = c.in_place ? ds_in : StridedMatrix<T>(rows, cols, c.gap);
    Guarded<T> mean(rows), rstd(rows), dgain(std::vector<T>(static_cast<std::size_t>(cols), T(0.5))), dbias = dgain;
    Matrix<const T> added, cotangent;
    if (c.residual) added = c.in_place ? Matrix<const T>(s.matrix()) : Matrix<const T>(residual_in);
    if (c.ds) cotangent = c.in_place ? Matrix<const T>(dx.matrix()) : Matrix<const T>(ds_in);
    const Matrix<const T> summed = c.residual ? Matrix<const T>(s.matrix()) : Matrix<const T>(x_in);
    T* const gain_out = c.parameters ? dgain.data() : nullptr;
    T* const bias_out = c.parameters && c.bias ? dbias.data() : nullptr;
    if (c.centered) {
      kernels::layer_norm_forward<CpuQueue, T>(queue, y.matrix(), s.matrix(), mean.data(), rstd.data(), x_in, added,
                                               gain_in.data(), c.bias ? bias_in.data() : nullptr, rows, cols, kEps);
      kernels::layer_norm_backward<CpuQueue, T>(queue, dx.matrix(), gain_out, bias_out, dy_in, cotangent, summed,
                                                gain_in.data(), mean.data(), rstd.data(), rows, cols);
    } else {
      kernels::rms_norm_forward<CpuQueue, T>(queue, y.matrix(), s.matrix(), rstd.data(), x_in, added, gain_in.data(),
                                             rows, cols, kEps);
      kernels::rms_norm_backward<CpuQueue, T>(queue, dx.matrix(), gain_out, dy_in, cotangent, summed, gain_in.data(),
                                              rstd.data(), rows, cols);
    }
    EXPECT_TRUE(s.intact() && y.intact() && dx.intact() && mean.intact() && rstd.intact() && dgain.intact() &&
                dbias.intact());
    return std::vector<std::vector<T>>{y.values(),  s.values(),     mean.values(), rstd.values(),
                                       dx.values(), dgain.values(), dbias.values()};
  });
  const Reference want =
      reference(c, doubles(x), doubles(residual), doubles(gain), doubles(bias), doubles(dy), doubles(ds));
  // A row of one: dx is a small difference of large terms, multiplied by rstd = 1 / sqrt(eps) at worst.
  const double loose = cols == 1 ? 1e3 : 10, sums = 10 * std::sqrt(static_cast<double>(rows));
  expect_close(results[0], want.y, tolerance<T>(loose), "y");
  if (c.residual) expect_close(results[1], want.s, tolerance<T>(), "s");
  if (c.centered) expect_close(results[2], want.mean, tolerance<T>(10), "mean");
  expect_close(results[3], want.rstd, tolerance<T>(10), "rstd");
  expect_close(results[4], want.dx, tolerance<T>(loose), "dx");
  const Doubles untouched(static_cast<std::size_t>(cols), 0.5);
  expect_close(results[5], c.parameters ? want.dgain : untouched, tolerance<T>(sums), "dgain");
  expect_close(results[6], c.parameters && c.bias ? want.dbias : untouched, tolerance<T>(sums), "dbias");
}

TEST(NormKernels, EqualTheFormula) {
  on_targets([] {
    for (const MatrixShape& shape : odd_shapes()) {
      for (const bool centered : {false, true}) {
        check<float>({shape, 0, centered});
        check<double>({shape, 0, centered});
        check<float>({shape, 3, centered, true, centered, true});
        check<double>({shape, 5, centered, true, centered, true});
      }
    }
  });
}

TEST(NormKernels, WorkInPlaceAndWithoutParameterGradients) {
  on_targets([] {
    for (const bool centered : {false, true}) {
      check<float>({{33, 65}, 2, centered, true, centered, true, true});
      check<double>({{129, 129}, 0, centered, true, false, true, true});
      check<float>({{5, 48}, 0, centered, true, centered, false, false, false});
    }
  });
}

TEST(NormKernels, BlocksOfRowsStayFewWhereRowsAreWide) {
  on_targets([] { check<float>({{65, 9000}}); });
}

TEST(NormKernels, NoRowsTouchNothing) {
  on_targets([] {
    check<float>({{0, 33}});
    check<double>({{0, 33}, 0, true, true, true, true});
  });
}

// The variance is taken around the mean, so a large mean does not eat the digits.
TEST(NormKernels, LayerNormKeepsItsDigitsUnderALargeMean) {
  on_targets([] {
    const Index cols = 256;
    std::vector<float> x = normal<float>(cols, 9);
    for (float& v : x) v += 4096;
    const std::vector<float> gain(static_cast<std::size_t>(cols), 1.0f);
    std::vector<float> y(x.size());
    float mean = 0, rstd = 0;
    kernels::ThreadPool pool(1);
    kernels::layer_norm_forward<CpuQueue, float>(CpuQueue(pool), {y.data(), cols}, {}, &mean, &rstd, {x.data(), cols},
                                                 {}, gain.data(), nullptr, 1, cols, kEps);
    Case c{{1, cols}, 0, true};
    const Reference want = reference(c, doubles(x), {}, doubles(gain), {}, Doubles(x.size()), {});
    expect_close(y, want.y, 1e-3, "y");
  });
}

}  // namespace
}  // namespace unfurl::tests
