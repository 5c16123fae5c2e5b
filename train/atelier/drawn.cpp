#include "train/atelier/drawn.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "kernels/philox.h"

namespace unfurl::train::atelier {

Vector normals(std::int64_t seed, Draws draws, std::uint64_t what, std::size_t count) {
  Vector out;
  out.reserve(count + 3);
  for (std::uint32_t block = 0; out.size() < count; ++block) {
    const auto bits = philox({static_cast<std::uint64_t>(seed), static_cast<std::uint32_t>(draws), block}, what);
    for (int i = 0; i < 4; i += 2) {  // Box and Muller, 1958
      const double radius = std::sqrt(-2 * std::log((bits[static_cast<std::size_t>(i)] + 0.5) * 0x1p-32));
      const double angle = 2 * std::numbers::pi * bits[static_cast<std::size_t>(i) + 1] * 0x1p-32;
      out.push_back(static_cast<float>(radius * std::cos(angle)));
      out.push_back(static_cast<float>(radius * std::sin(angle)));
    }
  }
  out.resize(count);
  return out;
}

double normal(std::int64_t seed, Draws draws, std::uint64_t what) { return normals(seed, draws, what, 1)[0]; }

Vector direction(std::int64_t seed, Draws draws, std::uint64_t what, std::size_t size) {
  Vector out = normals(seed, draws, what, size);
  normalize(out);
  return out;
}

std::vector<Vector> rotation(std::int64_t seed, Draws draws, std::size_t rows, std::size_t columns) {
  // Gram and Schmidt, over the fewer of rows and columns.
  const std::size_t count = std::min(rows, columns), size = std::max(rows, columns);
  std::vector<Vector> axes;
  for (std::size_t i = 0; i < count; ++i) {
    Vector axis = normals(seed, draws, i, size);
    for (int twice = 0; twice < 2; ++twice) {
      for (const Vector& other : axes) add(axis, other, -dot(axis, other));
    }
    normalize(axis);
    axes.push_back(std::move(axis));
  }
  std::vector<Vector> map(rows, Vector(columns));
  const float scale = rows < columns ? std::sqrt(static_cast<float>(columns) / static_cast<float>(rows)) : 1.0f;
  for (std::size_t r = 0; r < rows; ++r) {
    for (std::size_t c = 0; c < columns; ++c) map[r][c] = scale * (rows < columns ? axes[r][c] : axes[c][r]);
  }
  return map;
}

double normal_quantile(double probability) {
  double low = -10, high = 10;
  for (int i = 0; i < 100; ++i) {
    const double middle = (low + high) / 2;
    (0.5 * std::erfc(-middle / std::numbers::sqrt2) < probability ? low : high) = middle;
  }
  return (low + high) / 2;
}

float dot(std::span<const float> a, std::span<const float> b) {
  float lanes[8] = {};
  std::size_t i = 0;
  for (; i + 8 <= a.size(); i += 8) {
    for (std::size_t lane = 0; lane < 8; ++lane) lanes[lane] += a[i + lane] * b[i + lane];
  }
  for (; i < a.size(); ++i) lanes[0] += a[i] * b[i];
  return ((lanes[0] + lanes[4]) + (lanes[1] + lanes[5])) + ((lanes[2] + lanes[6]) + (lanes[3] + lanes[7]));
}

float length(std::span<const float> a) { return std::sqrt(dot(a, a)); }

void add(std::span<float> to, std::span<const float> from, double scale) {
  const auto factor = static_cast<float>(scale);
  for (std::size_t i = 0; i < to.size(); ++i) to[i] += factor * from[i];
}

void normalize(std::span<float> a) {
  const float norm = length(a);
  if (norm == 0) return;
  for (float& value : a) value /= norm;
}

}  // namespace unfurl::train::atelier
