#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "train/report/html_report.h"

namespace unfurl::train {
namespace {

constexpr double kWidth = 520, kPlot = 204, kLeft = 58, kRight = 22, kTop = 22, kBottom = 34, kRow = 16;
constexpr std::size_t kMostPoints = 500;  // more than a screen shows only make the file large
constexpr std::size_t kColours = 8;       // beyond them lines are dashed

using Points = std::vector<std::pair<double, double>>;

/// Points that can be drawn: beyond kGreatest, differences are no longer finite.
Points finite(const Points& points) {
  constexpr double kGreatest = 1e100;
  Points out;
  for (const auto& [x, y] : points) {
    if (std::abs(x) < kGreatest && std::abs(y) < kGreatest) out.emplace_back(x, y);
  }
  return out;
}

/// At most kMostPoints, each the mean of its neighbours.
Points thinned(const Points& points) {
  if (points.size() <= kMostPoints) return points;
  Points out;
  for (std::size_t i = 0; i < kMostPoints; ++i) {
    const std::size_t begin = i * points.size() / kMostPoints, end = (i + 1) * points.size() / kMostPoints;
    double x = 0, y = 0;
    for (std::size_t j = begin; j < end; ++j) {
      x += points[j].first / static_cast<double>(end - begin);
      y += points[j].second / static_cast<double>(end - begin);
    }
    out.emplace_back(x, y);
  }
  return out;
}

struct Axis {
  double low = std::numeric_limits<double>::infinity(), high = -low;
  double pixel_low = 0, pixel_high = 0;

  void include(double value) {
    low = std::min(low, value);
    high = std::max(high, value);
  }
  /// A range of one value, or none, becomes one around it.
  void widen() {
    if (!(low <= high)) low = 0, high = 1;
    const double least = std::max(std::abs(low), std::abs(high)) * 1e-9;
    if (high - low <= least) {
      const double half = low == 0 ? 0.5 : std::abs(low) / 2;
      low -= half;
      high += half;
    }
  }
  double pixel(double value) const { return pixel_low + (value - low) / (high - low) * (pixel_high - pixel_low); }
  /// 1, 2 or 5 times a power of ten, for about `count` of them.
  double step(int count) const {
    const double rough = (high - low) / count;
    const double power = std::pow(10, std::floor(std::log10(rough)));
    const double times = rough / power;
    return power * (times <= 1 ? 1 : times <= 2 ? 2 : times <= 5 ? 5 : 10);
  }
};

/// "0.001", "3.5", "12k", "1.5M".
std::string label(double value, double step) {
  if (std::abs(value) < step / 1e6) return "0";
  const double size = std::max(std::abs(value), step);
  if (size >= 1e6) return fmt::format("{:.6g}M", value / 1e6);
  if (size >= 1e4) return fmt::format("{:.6g}k", value / 1e3);
  return fmt::format("{:.6g}", value);
}

struct Label {
  double x = 0, y = 0;
};

/// Where the names of the lines stand, in rows that fit the width; those that have none stand nowhere.
std::vector<Label> legend_of(const std::vector<Series>& series, double& height) {
  std::vector<Label> out;
  Label next{kLeft, 9};
  for (const Series& one : series) {
    const double width = 30 + 6.2 * static_cast<double>(one.name.size());
    if (next.x > kLeft && next.x + width > kWidth + 10) next = {kLeft, next.y + kRow};
    out.push_back(next);
    if (!one.name.empty() && !one.faint) next.x += width;
  }
  height = next.y + kTop - 9;
  return out;
}

}  // namespace

std::string svg_chart(std::string_view x_name, const std::vector<Series>& series) {
  std::vector<Points> lines;
  Axis across{.pixel_low = kLeft, .pixel_high = kWidth - kRight};
  double top = kTop;
  const std::vector<Label> legend = legend_of(series, top);
  const double full_height = top + kPlot + kBottom;
  Axis up{.pixel_low = top + kPlot, .pixel_high = top};
  for (const Series& one : series) {
    lines.push_back(thinned(finite(one.points)));
    for (const auto& [x, y] : lines.back()) {
      across.include(x);
      up.include(y);
    }
  }
  across.widen();
  up.widen();

  std::string out = fmt::format("<svg viewBox=\"0 0 {} {}\" role=\"img\">\n", kWidth, full_height);
  const double dy = up.step(7), dx = across.step(7);
  for (double y = std::ceil(up.low / dy) * dy; y <= up.high + dy / 1e6; y += dy) {
    out += fmt::format(
        "<line class=\"grid\" x1=\"{}\" x2=\"{}\" y1=\"{:.1f}\" y2=\"{:.1f}\"/>"
        "<text x=\"{}\" y=\"{:.1f}\" text-anchor=\"end\">{}</text>\n",
        kLeft, kWidth - kRight, up.pixel(y), up.pixel(y), kLeft - 6, up.pixel(y) + 4, label(y, dy));
  }
  for (double x = std::ceil(across.low / dx) * dx; x <= across.high + dx / 1e6; x += dx) {
    out += fmt::format("<text x=\"{:.1f}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n", across.pixel(x),
                       top + kPlot + 16, label(x, dx));
  }
  out += fmt::format("<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\n", kWidth - kRight, full_height - 4,
                     escape_html(x_name));

  for (std::size_t i = 0; i < lines.size(); ++i) {
    // A faint line lies below the one it is the raw form of, in that one's colour: the first.
    const std::size_t colour = series[i].faint ? 0 : i % kColours;
    const char* const form = series[i].faint ? " faint" : i / kColours % 2 == 1 ? " dashed" : "";
    if (!lines[i].empty()) {
      out += fmt::format("<polyline class=\"s k{}{}\" points=\"", colour, form);
      for (const auto& [x, y] : lines[i]) out += fmt::format("{:.1f},{:.1f} ", across.pixel(x), up.pixel(y));
      out.back() = '"';
      out += "/>\n";
    }
    if (series[i].dots || lines[i].size() == 1) {
      for (const auto& [x, y] : lines[i]) {
        out += fmt::format(
            "<circle class=\"f{}\" cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"2.6\"><title>{} {:.6g}: {:.6g}</title></circle>\n",
            colour, across.pixel(x), up.pixel(y), escape_html(x_name), x, y);
      }
    }
    if (!series[i].name.empty() && !series[i].faint && series.size() > 1) {
      const auto [x, y] = legend[i];
      out +=
          fmt::format("<circle class=\"f{}\" cx=\"{:.1f}\" cy=\"{}\" r=\"4\"/><text x=\"{:.1f}\" y=\"{}\">{}</text>\n",
                      colour, x + 4, y, x + 12, y + 4, escape_html(series[i].name));
    }
  }
  return out + "</svg>";
}

}  // namespace unfurl::train
