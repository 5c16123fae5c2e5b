#include "train/report/html_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <map>

#include "core/files.h"
#include "train/corpus/text.h"

namespace unfurl::train {
namespace {

constexpr const char* kStyle = R"(
:root{--ink:#1d2430;--dim:#667085;--line:#e3e6ec;--page:#fff;--tile:#f6f7f9;--c0:#2f6fdf;--c1:#e0662b;--c2:#2a9d6f;--c3:#9a4fd0;--c4:#0f9aa8;--c5:#c2357a;--c6:#94731c;--c7:#667085}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ef;--dim:#98a2b3;--line:#323845;--page:#15181e;--tile:#1e222b;--c0:#6ea0ff;--c1:#ff9a63;--c2:#5ccb9b;--c3:#c58bf2;--c4:#4cc9d6;--c5:#f07ab0;--c6:#d6b24c;--c7:#98a2b3}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--page);max-width:1080px;margin:0 auto;padding:24px}
h1{margin:0 0 4px;font-size:26px}h2{margin:32px 0 8px;font-size:18px}h3{margin:16px 0 4px;font-size:15px}
p{margin:4px 0;color:var(--dim)}
.figures{display:flex;flex-wrap:wrap;gap:12px;margin:20px 0}.figures div{background:var(--tile);border-radius:8px;padding:10px 16px}
.figures b{display:block;font-size:20px;font-variant-numeric:tabular-nums}.figures span{color:var(--dim);font-size:13px}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(440px,1fr));gap:8px 24px}
.table{overflow-x:auto}table{border-collapse:collapse;width:100%}th,td{padding:5px 10px;text-align:left;border-bottom:1px solid var(--line);vertical-align:top}
th{color:var(--dim);font-weight:600;font-size:13px}td.n,th.n{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}
svg{width:100%;height:auto;font:11px system-ui,sans-serif}svg text{fill:var(--dim)}.grid{stroke:var(--line)}
.s{fill:none;stroke-width:1.6;stroke-linejoin:round}.faint{opacity:.3;stroke-width:1}
.k0{stroke:var(--c0)}.k1{stroke:var(--c1)}.k2{stroke:var(--c2)}.k3{stroke:var(--c3)}.k4{stroke:var(--c4)}.k5{stroke:var(--c5)}.k6{stroke:var(--c6)}.k7{stroke:var(--c7)}.dashed{stroke-dasharray:5 3}
.f0{fill:var(--c0)}.f1{fill:var(--c1)}.f2{fill:var(--c2)}.f3{fill:var(--c3)}.f4{fill:var(--c4)}.f5{fill:var(--c5)}.f6{fill:var(--c6)}.f7{fill:var(--c7)}
details{margin:8px 0}summary{cursor:pointer}pre{background:var(--tile);padding:12px;border-radius:8px;overflow-x:auto;font-size:13px}
ol{margin:4px 0 12px;padding-left:28px}code{font-size:13px}
)";

/// A number as a person would write it; what it is not (empty, words) keeps its side of the cell.
bool looks_numeric(std::string_view text) {
  if (text.empty()) return false;
  const auto numeric = [](char c) {
    return (c >= '0' && c <= '9') || std::string_view("+-.,%eE: ").find(c) != std::string_view::npos;
  };
  return std::ranges::all_of(text, numeric) && std::ranges::any_of(text, [](char c) { return c >= '0' && c <= '9'; });
}

double number_or_nan(const Json& line, std::string_view name) {
  const Json* found = line.find(name);
  return found != nullptr && found->is_number() ? found->as_number() : std::numeric_limits<double>::quiet_NaN();
}

std::string text_or_empty(const Json& line, std::string_view name) {
  const Json* found = line.find(name);
  return found != nullptr && found->is_string() ? found->as_string() : std::string();
}

Series series_of(const std::vector<Json>& metrics, std::string_view kind, std::string_view key, std::string name) {
  Series out{.name = std::move(name), .points = {}};
  for (const Json& line : metrics) {
    if (text_or_empty(line, "kind") != kind) continue;
    out.points.emplace_back(number_or_nan(line, "step"), number_or_nan(line, key));
  }
  return out;
}

/// An exponential mean over about a hundredth of the curve.
Series smoothed(const Series& raw, std::string name) {
  Series out{.name = std::move(name), .points = {}};
  const double keep = 1 - 1 / std::max(1.0, static_cast<double>(raw.points.size()) / 100);
  double sum = 0, weight = 0;
  for (const auto& [x, y] : raw.points) {
    if (y - y != 0) continue;
    sum = keep * sum + (1 - keep) * y;
    weight = keep * weight + (1 - keep);
    out.points.emplace_back(x, sum / weight);
  }
  return out;
}

}  // namespace

std::string escape_html(std::string_view text) {
  std::string clean;
  if (!valid_utf8(text)) {
    clean = Json::parse(Json(text).dump()).as_string();  // which replaces what is not UTF-8
    text = clean;
  }
  std::string out;
  out.reserve(text.size());
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        if ((static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\t') || c == 0x7f) {
          out += "\xEF\xBF\xBD";
        } else {
          out += c;
        }
    }
  }
  return out;
}

HtmlReport::HtmlReport(std::string_view title, std::string_view subtitle) : title_(escape_html(title)) {
  body_ = fmt::format("<h1>{}</h1>\n", title_);
  if (!subtitle.empty()) body_ += fmt::format("<p>{}</p>\n", escape_html(subtitle));
}

void HtmlReport::add_figures(const std::vector<std::pair<std::string, std::string>>& figures) {
  body_ += "<div class=\"figures\">";
  for (const auto& [name, value] : figures) {
    body_ += fmt::format("<div><b>{}</b><span>{}</span></div>", escape_html(value), escape_html(name));
  }
  body_ += "</div>\n";
}

void HtmlReport::add_table(std::string_view heading, const std::vector<std::string>& columns,
                           const std::vector<std::vector<std::string>>& rows, std::string_view note) {
  body_ += fmt::format("<h2>{}</h2>\n", escape_html(heading));
  if (!note.empty()) body_ += fmt::format("<p>{}</p>\n", escape_html(note));
  std::vector<bool> numeric(columns.size());
  for (std::size_t i = 0; i < columns.size(); ++i) {
    numeric[i] = std::ranges::any_of(rows, [&](const auto& row) { return i < row.size() && looks_numeric(row[i]); });
  }
  const auto class_of = [&](std::size_t i) { return i < numeric.size() && numeric[i] ? " class=\"n\"" : ""; };
  body_ += "<div class=\"table\"><table><tr>";
  for (std::size_t i = 0; i < columns.size(); ++i) {
    body_ += fmt::format("<th{}>{}</th>", class_of(i), escape_html(columns[i]));
  }
  body_ += "</tr>\n";
  for (const auto& row : rows) {
    body_ += "<tr>";
    for (std::size_t i = 0; i < row.size(); ++i) {
      body_ += fmt::format("<td{}>{}</td>", class_of(i), escape_html(row[i]));
    }
    body_ += "</tr>\n";
  }
  body_ += "</table></div>\n";
}

void HtmlReport::add_text(std::string_view heading, std::string_view text) {
  body_ +=
      fmt::format("<details><summary>{}</summary><pre>{}</pre></details>\n", escape_html(heading), escape_html(text));
}

void HtmlReport::add_chart(std::string_view heading, std::string_view x_name, const std::vector<Series>& series) {
  body_ += fmt::format("<div><h3>{}</h3>{}</div>\n", escape_html(heading), svg_chart(x_name, series));
}

void HtmlReport::add_metrics(const std::vector<Json>& metrics) {
  const auto any = [](const Series& series) {
    return std::ranges::any_of(series.points, [](const auto& point) { return point.second - point.second == 0; });
  };
  Series training = series_of(metrics, "step", "loss", "training");
  Series validation = series_of(metrics, "validation", "loss", "validation");
  Series mean = smoothed(training, "training, mean");
  training.faint = true;
  validation.dots = true;
  body_ += "<h2>Curves</h2>\n<div class=\"charts\">\n";
  if (any(training) || any(validation)) add_chart("Loss (nats a token)", "step", {mean, validation, training});
  Series bits = series_of(metrics, "validation", "bits_per_byte", "validation");
  bits.dots = true;
  if (any(bits)) add_chart("Bits per byte", "step", {bits});
  for (const auto& [key, heading] :
       {std::pair{"learning_rate", "Learning rate"}, std::pair{"gradient_norm", "Gradient norm, before clipping"},
        std::pair{"tokens_per_second", "Tokens per second"}}) {
    const Series series = series_of(metrics, "step", key, "");
    if (any(series)) add_chart(heading, "step", {series});
  }
  body_ += "</div>\n";
  add_samples(metrics);
}

void HtmlReport::add_samples(const std::vector<Json>& metrics) {
  std::map<std::int64_t, std::string> by_step;
  for (const Json& line : metrics) {
    const Json *step = line.find("step"), *expansions = line.find("expansions");
    if (text_or_empty(line, "kind") != "sample" || step == nullptr || !step->is_integer() || expansions == nullptr ||
        !expansions->is_array()) {
      continue;
    }
    std::string& out = by_step[step->as_integer()];
    const std::string prefix = text_or_empty(line, "prefix");
    out += fmt::format("<h3>{}{}</h3>\n<ol>", prefix.empty() ? "" : "<code>" + escape_html(prefix) + "</code> ",
                       escape_html(text_or_empty(line, "query")));
    for (const Json& expansion : expansions->as_array()) {
      if (expansion.is_string()) out += "<li>" + escape_html(expansion.as_string()) + "</li>";
    }
    out += "</ol>\n";
  }
  if (by_step.empty()) return;
  body_ += "<h2>Sample expansions</h2>\n";
  const std::int64_t last = by_step.rbegin()->first;
  for (const auto& [step, out] : by_step) {
    body_ += fmt::format("<details{}><summary>after step {}</summary>\n{}</details>\n", step == last ? " open" : "",
                         step, out);
  }
}

std::string HtmlReport::html() const {
  return fmt::format(
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n"
      "<title>{}</title>\n<style>{}</style></head>\n<body>\n{}</body></html>\n",
      title_, kStyle, body_);
}

void HtmlReport::write(const std::filesystem::path& path) const { write_file(path, html()); }

}  // namespace unfurl::train
