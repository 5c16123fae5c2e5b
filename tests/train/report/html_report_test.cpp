#include "train/report/html_report.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <set>

#include "core/error.h"
#include "core/files.h"
#include "tests/support/temporary_folder.h"

namespace unfurl::tests {
namespace {

using namespace unfurl::train;

std::size_t count(std::string_view text, std::string_view what) {
  std::size_t found = 0;
  for (std::size_t at = text.find(what); at != std::string_view::npos; at = text.find(what, at + 1)) ++found;
  return found;
}

std::vector<Json> metrics() {
  std::vector<Json> out;
  for (int step = 1; step <= 2000; ++step) {
    out.push_back(Json(Json::Object{{"kind", "step"},
                                    {"step", step},
                                    {"loss", step == 7 ? Json() : Json(8 / std::sqrt(step))},
                                    {"learning_rate", 1e-3},
                                    {"tokens_per_second", 5000.0 + step % 7}}));
    if (step % 500 == 0) {
      out.push_back(Json(Json::Object{{"kind", "validation"}, {"step", step}, {"loss", 9 / std::sqrt(step)}}));
      out.push_back(Json(Json::Object{{"kind", "sample"},
                                      {"step", step},
                                      {"query", "a <fox>"},
                                      {"prefix", "FLV"},
                                      {"expansions", Json(Json::Array{"a <fox>, oil & ink", "a fox"})}}));
    }
  }
  return out;
}

TEST(EscapeHtml, LeavesNothingThatHtmlWouldRead) {
  EXPECT_EQ(escape_html("<a href=\"x\">'&'</a>"), "&lt;a href=&quot;x&quot;&gt;&#39;&amp;&#39;&lt;/a&gt;");
  EXPECT_EQ(escape_html("ünï ✨\n\t"), "ünï ✨\n\t");
  EXPECT_EQ(escape_html(std::string_view("a\0b\x1b", 4)), "a\uFFFDb\uFFFD");
  EXPECT_EQ(escape_html("a\xff z"), "a\uFFFD z");
}

TEST(SvgChart, DrawsInsideItsFrameAndThinsOut) {
  Series series{.name = "x", .points = {}};
  for (int i = 0; i < 100'000; ++i) series.points.emplace_back(i, std::sin(i * 1e-3) * 1e-5 + 7);
  const std::string svg = svg_chart("step", {series});
  EXPECT_LT(svg.size(), 12'000u);
  EXPECT_EQ(count(svg, "<polyline"), 1u);
  EXPECT_EQ(svg.find("nan"), std::string::npos);
  EXPECT_GE(count(svg, "class=\"grid\""), 3u);
}

TEST(SvgChart, ManyNamesStandInRowsAndAreToldApart) {
  std::vector<Series> series;
  for (int i = 0; i < 12; ++i) {
    series.push_back({.name = "random_filter_" + std::to_string(i), .points = {{0, i}, {1, 2 * i}}});
  }
  const std::string svg = svg_chart("step", series);
  EXPECT_EQ(count(svg, "<polyline"), 12u);
  EXPECT_EQ(count(svg, "dashed"), 4u);
  EXPECT_NE(svg.find("random_filter_11"), std::string::npos);
  std::set<std::string> rows;  // of three names of 15 characters
  for (std::size_t at = svg.find("cy=\""); at != std::string::npos; at = svg.find("cy=\"", at + 1)) {
    rows.insert(svg.substr(at, svg.find('"', at + 4) - at));
  }
  EXPECT_EQ(rows.size(), 4u);
}

TEST(SvgChart, OddSeries) {
  const double inf = std::numeric_limits<double>::infinity();
  const std::vector<std::vector<std::pair<double, double>>> cases = {
      {},
      {{1, 2}},
      {{1, 0}, {2, 0}},
      {{1, inf}, {2, std::nan("")}, {3, 1e308}, {4, -1e308}},
      {{1e18, 1e-300}, {1e18 + 1, 2e-300}},
      {{0, -5}, {0, -5}},
      {{-1e99, 1e99}, {1e99, -1e99}},
  };
  for (const auto& points : cases) {
    const std::string svg =
        svg_chart("step", {{.name = "", .points = points, .dots = true}, {.name = "b", .points = {}}});
    EXPECT_TRUE(svg.ends_with("</svg>"));
    EXPECT_EQ(svg.find("nan"), std::string::npos) << svg;
    EXPECT_EQ(svg.find("inf"), std::string::npos) << svg;
    EXPECT_LT(svg.size(), 20'000u);
  }
}

TEST(HtmlReport, IsOneFileWithCurvesSamplesAndTables) {
  HtmlReport report("base <1>", "2 cores");
  report.add_figures({{"bits per byte", "1.18"}});
  report.add_metrics(metrics());
  report.add_table("Held-out", {"run", "bits"}, {{"base", "1.5"}, {"<b>", "1.4"}}, "less is better");
  report.add_text("Recipe", "model:\n  width: 128 # </pre>");
  const std::string html = report.html();
  EXPECT_EQ(count(html, "<svg"), 3u);  // loss, learning rate, throughput; there is no gradient norm
  EXPECT_EQ(count(html, "Gradient norm"), 0u);
  EXPECT_EQ(count(html, "after step"), 4u);
  EXPECT_EQ(count(html, "<details open>"), 1u);
  EXPECT_NE(html.find("<li>a &lt;fox&gt;, oil &amp; ink</li>"), std::string::npos);
  EXPECT_NE(html.find("<td>&lt;b&gt;</td><td class=\"n\">1.4</td>"), std::string::npos);
  EXPECT_NE(html.find("128 # &lt;/pre&gt;"), std::string::npos);
  EXPECT_EQ(html.find("<fox>"), std::string::npos);
  for (const char* outside : {"http:", "https:", "src=", "<script", "url(", "@import"}) {
    EXPECT_EQ(html.find(outside), std::string::npos) << outside;
  }
  const TemporaryFolder folder;
  report.write(folder / "report.html");
  EXPECT_EQ(read_file(folder / "report.html"), html);
  EXPECT_THROW(report.write(folder / "none/report.html"), Error);
}

TEST(HtmlReport, MetricsOfOddKindsDoNoHarm) {
  HtmlReport report("x");
  report.add_metrics({Json(), Json(3), Json(Json::Object{{"kind", 3}}),
                      Json(Json::Object{{"kind", "sample"}, {"step", "a"}, {"expansions", 1}}),
                      Json(Json::Object{{"kind", "step"}, {"step", 1}, {"loss", "low"}})});
  EXPECT_EQ(count(report.html(), "<svg"), 0u);
}

}  // namespace
}  // namespace unfurl::tests
