#include "train/trainer/run_files.h"

#include <fmt/format.h>
#include <sys/resource.h>

#include "core/allocator.h"
#include "core/device.h"
#include "core/files.h"
#include "core/names.h"
#include "train/report/html_report.h"
#include "train/report/metrics.h"
#include "train/report/progress.h"
#include "train/trainer/prefix_shares.h"

namespace unfurl::train {
namespace {

/// Bytes, the greatest this process has held.
std::size_t peak_process_memory() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<std::size_t>(usage.ru_maxrss) * 1024;
}

}  // namespace

void write_run_json(const std::filesystem::path& folder, const Recipe& recipe, const RunState& state,
                    const RunFigures& figures) {
  Json run = Json::object();
  run["name"] = recipe.name;
  run["step"] = state.step;
  run["steps"] = recipe.train.steps;
  run["finished"] = figures.finished;
  run["best_step"] = state.best_step > 0 ? state.best_step : figures.saved;
  run["best_loss"] = state.best_step > 0 ? Json(state.best_loss) : Json();
  if (state.simulated) run["simulated"] = true;
  run["tokens"] = state.tokens;
  run["seconds"] = figures.seconds;
  run["parameters"] = figures.parameters;
  run["trained_parameters"] = figures.trained;
  run["placement"] = described(figures.placement);
  run["ranks"] = figures.ranks;
  if (const Communication& c = figures.communication;
      c.steps > 0 && (figures.ranks > 1 || figures.placement.device == Device::cpu)) {
    const auto steps = static_cast<double>(c.steps);
    run["communication"] = Json::Object{{"steps", c.steps},
                                        {"seconds_per_step", c.seconds / steps},
                                        {"collective_seconds_per_step", c.collectives / steps},
                                        {"exposed_seconds_per_step", c.exposed / steps},
                                        {"bytes_sent_per_step", c.bytes_sent / steps}};
  }
  run["peak_allocated_bytes"] = static_cast<std::int64_t>(Allocator::of(figures.placement.device).statistics().peak);
  run["peak_process_bytes"] = static_cast<std::int64_t>(peak_process_memory());
  write_file(folder / "run.json", run.dump(2) + "\n");
}

void write_run_report(const std::filesystem::path& folder, const Recipe& recipe, const RunState& state,
                      Index parameters, double seconds) {
  HtmlReport report("unfurl: " + recipe.name + (state.simulated ? ": SIMULATED data" : ""), folder.string());
  report.add_figures({{"parameters", grouped(parameters)},
                      {"steps", grouped(state.step)},
                      {"tokens", grouped(state.tokens)},
                      {"time", duration(seconds)},
                      {"best validation loss", state.best_step > 0 ? fmt::format("{:.4f}", state.best_loss) : "n/a"}});
  const std::vector<Json> metrics = read_metrics(folder / "metrics.jsonl");
  report.add_metrics(metrics);
  if (const auto rows = prefix_table(prefix_tenths(metrics, recipe.train.steps)); !rows.empty()) {
    report.add_table("Dropped prefixes",
                     {"tenth of the run", "pairs with a prefix", "dropped", "schedule", "standard errors"}, rows);
  }
  report.add_text("Recipe", dump_recipe(recipe));
  report.write(folder / "report.html");
}

}  // namespace unfurl::train
