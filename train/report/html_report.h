// A page about a run: one HTML file with its styles and curves inside, that needs nothing else.
#pragma once
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/json.h"

namespace unfurl::train {

/// One line of a chart.
struct Series {
  std::string name;
  std::vector<std::pair<double, double>> points;  // joined in order; those that are not finite are left out
  bool dots = false;                              // a dot on each point
  bool faint = false;
};

class HtmlReport {
 public:
  /// `subtitle` stands below the title: what the run is, when and where it ran.
  explicit HtmlReport(std::string_view title, std::string_view subtitle = {});

  /// Figures in a row of tiles: {"bits per byte", "1.18"}.
  void add_figures(const std::vector<std::pair<std::string, std::string>>& figures);
  /// `note` stands below the heading; numbers are aligned to the right.
  void add_table(std::string_view heading, const std::vector<std::string>& columns,
                 const std::vector<std::vector<std::string>>& rows, std::string_view note = {});
  /// Text as it is, folded away until opened.
  void add_text(std::string_view heading, std::string_view text);
  void add_chart(std::string_view heading, std::string_view x_name, const std::vector<Series>& series);
  /// From metrics (metrics.h): the curves of loss, learning rate, gradient norm and throughput, and the sample
  /// expansions of every validation. What the metrics do not hold is left out.
  void add_metrics(const std::vector<Json>& metrics);

  std::string html() const;
  /// Throws Error naming the path where it cannot be written; nothing half-written is left.
  void write(const std::filesystem::path& path) const;

 private:
  void add_samples(const std::vector<Json>& metrics);
  std::string title_, body_;
};

/// Text as HTML shows it: special characters escaped, what is not UTF-8 or not printable replaced.
std::string escape_html(std::string_view text);

/// The chart alone.
std::string svg_chart(std::string_view x_name, const std::vector<Series>& series);

}  // namespace unfurl::train
