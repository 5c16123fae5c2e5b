#include <fmt/format.h>

#include <cmath>

#include "core/error.h"
#include "core/files.h"
#include "train/atelier/commands.h"
#include "train/corpus/grammar.h"

namespace unfurl::train::atelier {
namespace {

constexpr int kCounts[] = {0, 2, 4, 8};  // flavors added
constexpr int kAgreed = 4;               // of them where agreement is measured

/// Queries of every type, as the grammar says them.
std::vector<std::string> straight_queries(const Model& model, std::int64_t count) {
  const Grammar grammar([](std::string_view) { return true; });
  std::vector<std::string> queries;
  for (std::uint64_t i = 0; queries.size() < static_cast<std::size_t>(count); ++i) {
    Draw draw(static_cast<std::uint64_t>(model.config().seed), static_cast<std::uint32_t>(Draws::calibration), i);
    const std::vector<Pair> pairs = grammar.scene(draw);
    queries.push_back(draw.pick(pairs).query);
  }
  return queries;
}

std::string with_flavors(const Model& model, std::string prompt, int count, std::uint64_t item) {
  Draw draw(static_cast<std::uint64_t>(model.config().seed), static_cast<std::uint32_t>(Draws::calibration) + 0x1000,
            item);
  double sum = 0;
  for (const Flavor& flavor : model.flavors()) sum += flavor.popularity;
  for (int k = 0; k < count; ++k) {
    double at = draw.bits() * 0x1p-32 * sum;
    std::size_t f = 0;
    while (f + 1 < model.flavors().size() && at >= model.flavors()[f].popularity) at -= model.flavors()[f++].popularity;
    prompt += ", " + model.flavors()[f].name;
  }
  return prompt;
}

}  // namespace

double correlation(const std::vector<double>& a, const std::vector<double>& b) {
  require(a.size() == b.size() && !a.empty(), "correlation: {} and {} values", a.size(), b.size());
  const auto n = static_cast<double>(a.size());
  double sa = 0, sb = 0, aa = 0, bb = 0, ab = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    sa += a[i];
    sb += b[i];
  }
  for (std::size_t i = 0; i < a.size(); ++i) {
    aa += (a[i] - sa / n) * (a[i] - sa / n);
    bb += (b[i] - sb / n) * (b[i] - sb / n);
    ab += (a[i] - sa / n) * (b[i] - sb / n);
  }
  return ab / std::sqrt(std::max(aa * bb, 1e-300));
}

Calibration calibrate(Model& model, const DescribeOptions& options) {
  if (options.queries < 2 || options.images < 2) user_error("a calibration needs two queries and two images, or more");
  Calibration made;
  made.flavors = model.flavors().size();
  std::vector<double> taste, bias, renders[kGenerators];
  for (const Flavor& flavor : model.flavors()) {
    taste.push_back(flavor.taste);
    bias.push_back(flavor.bias);
    for (std::size_t g = 0; g < kGenerators; ++g) {
      renders[g].push_back(flavor.renderability[g]);
      made.rendered[g] += flavor.rendered[g] ? 1.0 / static_cast<double>(made.flavors) : 0;
    }
  }
  made.between_generators = correlation(renders[0], renders[1]);
  const std::vector<std::string> queries = straight_queries(model, options.queries);
  for (int g = 0; g < kGenerators; ++g) {
    made.taste_renderability[g] = correlation(taste, renders[g]);
    made.bias_renderability[g] = correlation(bias, renders[g]);
    std::vector<double> seen[2];  // by the filter, by the judge; less the query's mean
    for (const int count : kCounts) {
      Calibration::Row row{.flavors = count};
      double squares = 0;
      const auto n = static_cast<double>(queries.size());
      for (std::size_t q = 0; q < queries.size(); ++q) {
        const Vector query = model.embed(Embedder::judge, queries[q]);
        Vector mean(query.size(), 0.0f);
        const Vector asked = model.embed(Embedder::filter, queries[q]);
        std::vector<double> here[2];
        double points = 0;
        const auto images = static_cast<double>(options.images);
        for (std::int64_t i = 0; i < options.images; ++i) {
          const auto item = static_cast<std::uint64_t>(q) * 1000 + static_cast<std::uint64_t>(i);
          const std::string prompt = with_flavors(model, queries[q], count, item);
          const Picture picture = model.render(prompt, g + 1, item);
          const Vector image = model.embed(Embedder::judge, picture);
          points += model.taste(picture) / images;
          row.alignment += static_cast<double>(dot(image, query)) / images / n;
          row.prompt_alignment += static_cast<double>(dot(image, model.embed(Embedder::judge, prompt))) / images / n;
          here[0].push_back(dot(model.embed(Embedder::filter, picture), asked));
          here[1].push_back(dot(image, query));
          add(mean, image, 1 / images);
        }
        for (std::size_t e = 0; e < 2 && count == kAgreed; ++e) {
          double middle = 0;
          for (const double value : here[e]) middle += value / images;
          for (const double value : here[e]) seen[e].push_back(value - middle);
        }
        row.taste += points / n;
        squares += points * points / n;
        // Of directions: the mean squared distance from their mean, over the numbers of an embedding.
        const double size = length(mean);
        row.diversity += (1 - size * size) / static_cast<double>(mean.size()) / n;
      }
      row.taste_error = std::sqrt(std::max(squares - row.taste * row.taste, 0.0) / (n - 1));
      made.rows[g].push_back(row);
    }
    made.agreement[g] = correlation(seen[0], seen[1]);
  }
  return made;
}

void run_describe(Model& model, const DescribeOptions& options) {
  const Calibration made = calibrate(model, options);
  fmt::print("simulated world {}\n", described(model.config()));
  fmt::print("{} flavors; the draws of the two simulated generators correlate {:.3f}\n", made.flavors,
             made.between_generators);
  fmt::print(
      "all figures are simulated: {} straight queries of the grammar, {} images each, flavors drawn by "
      "popularity\n",
      options.queries, options.images);
  for (int g = 0; g < kGenerators; ++g) {
    fmt::print(
        "\nsimulated generator {}: {:.1f} % of the flavors rendered; renderability correlates {:+.3f} with taste, "
        "{:+.3f} with the inverter's bias\n",
        g + 1, 100 * made.rendered[g], made.taste_renderability[g], made.bias_renderability[g]);
    fmt::print("  filter and judge agree by {:.3f} on which of a query's images with {} flavors show it\n",
               made.agreement[g], kAgreed);
    fmt::print("  flavors added   taste             query-image   prompt-image   diversity\n");
    for (const Calibration::Row& row : made.rows[g]) {
      fmt::print("  {:>13}   {:.3f} +- {:.3f}   {:>11.3f}   {:>12.3f}   {:.5f}\n",
                 row.flavors == 0 ? std::string("straight") : std::to_string(row.flavors), row.taste,
                 1.96 * row.taste_error, row.alignment, row.prompt_alignment, row.diversity);
    }
  }
}

}  // namespace unfurl::train::atelier
