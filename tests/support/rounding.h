// Errors of a computation, against those of the plain one in the same precision.
#pragma once
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

namespace unfurl::tests {

/// The greatest |got - exact|, relative to |exact| and the mean of all |exact|; infinite where a NaN or an infinity is
/// not the same in both. `worst` becomes its place.
inline double rounding_error(const std::vector<double>& got, const std::vector<double>& exact,
                             std::size_t* worst = nullptr) {
  double mean = 0, most = 0;
  std::size_t finite = 0;
  for (const double value : exact) {
    if (std::isfinite(value)) mean += std::abs(value), ++finite;
  }
  mean /= static_cast<double>(std::max<std::size_t>(finite, 1));
  for (std::size_t i = 0; i < exact.size(); ++i) {
    const bool same = got[i] == exact[i] || (std::isnan(got[i]) && std::isnan(exact[i]));
    double error = same ? 0 : std::abs(got[i] - exact[i]) / (mean + std::abs(exact[i]));
    if (!(error == error)) error = HUGE_VAL;
    if (error > most) {
      most = error;
      if (worst != nullptr) *worst = i;
    }
  }
  return most;
}

/// Expects the rounding error of `got` to be at most `factor` times that of `plain`, plus kUlps of float.
inline void expect_rounding_error(const std::vector<double>& got, const std::vector<double>& exact,
                                  const std::vector<double>& plain, double factor, const std::string& what) {
  constexpr double kUlps = 4 * 0x1p-23;
  ASSERT_EQ(got.size(), exact.size()) << what;
  ASSERT_EQ(plain.size(), exact.size()) << what;
  std::size_t worst = 0;
  const double error = rounding_error(got, exact, &worst), plainly = rounding_error(plain, exact);
  EXPECT_LE(error, factor * plainly + kUlps) << what << ": element " << worst << " is " << got[worst] << ", exactly "
                                             << exact[worst] << "; the plain computation is wrong by " << plainly;
}

}  // namespace unfurl::tests
