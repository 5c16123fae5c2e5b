#include "train/trainer/plan.h"

#include <fmt/format.h>

#include "core/json.h"
#include "core/names.h"
#include "train/commands.h"
#include "train/recipe/pipeline.h"
#include "train/report/progress.h"
#include "train/trainer/ranks_plan.h"

namespace unfurl::train {
namespace {

Json to_json(const Recipe& recipe, const RunPlan& plan) {
  Json out = Json::object();
  out["name"] = recipe.name;
  out["parameters"] = plan.parameters;
  out["trained_parameters"] = plan.trained;
  out["frozen_parameters"] = plan.parameters - plan.trained;
  out["steps"] = recipe.train.steps;
  out["tokens_per_step"] = plan.tokens_per_step;
  out["tokens"] = plan.tokens;
  out["flops_per_token"] = plan.flops_per_token;
  out["allocator_peak_bytes"] = static_cast<std::int64_t>(plan.allocator_peak);
  for (const auto& [name, bytes] : plan.allocator_peak_by_name) {
    out["allocator_peak_by_name"][name] = static_cast<std::int64_t>(bytes);
  }
  out["process_peak_bytes"] = static_cast<std::int64_t>(plan.process_peak);
  out["device"] = name_of(plan.placement.device);
  out["precision"] = name_of(plan.placement.dtype);
  out["flops_per_second"] = plan.flops_per_second;
  out["assumed_share"] = plan.share;
  out["seconds"] = plan.flops_per_second > 0 ? Json(plan.seconds) : Json();
  return out;
}

void print(const Recipe& recipe, const RunPlan& plan) {
  const auto mib = [](std::size_t bytes) { return static_cast<double>(bytes) / (1 << 20); };
  fmt::print("{}\n", recipe.name);
  const std::string of_them =
      plan.trained == plan.parameters
          ? ""
          : fmt::format(": {} trained, {} frozen", grouped(plan.trained), grouped(plan.parameters - plan.trained));
  fmt::print("  parameters      {}{}\n", grouped(plan.parameters), of_them);
  fmt::print("  tokens          {} = {} {} x {}\n", grouped(plan.tokens), grouped(recipe.train.steps),
             plural(recipe.train.steps, "step"), grouped(plan.tokens_per_step));
  fmt::print("  device          {}\n", described(plan.placement));
  if (plan.placement.device == Device::cuda) {
    fmt::print("  memory          {:.0f} MiB in tensors on the GPU; CUDA takes some hundred more\n",
               mib(plan.allocator_peak));
  } else {
    fmt::print("  memory          {:.0f} MiB in tensors, {:.0f} MiB in all\n", mib(plan.allocator_peak),
               mib(plan.process_peak));
  }
  for (const auto& [name, bytes] : plan.allocator_peak_by_name) {
    if (bytes >= (1 << 20)) fmt::print("    {:<24}{:>9.1f} MiB\n", name, mib(bytes));
  }
  fmt::print("  work            {:.3g} FLOPs a token ({} + 6 L T d), {:.3g} in all\n", plan.flops_per_token,
             plan.trained == plan.parameters ? "6 N" : "4 N + 2 trained N",
             plan.flops_per_token * static_cast<double>(plan.tokens));
  if (plan.flops_per_second == 0) {
    fmt::print("  time            n/a: how fast {} is, is not known here\n", described(plan.placement));
  } else if (plan.placement.device == Device::cuda) {
    fmt::print("  time            about {} at an assumed {:.0f} % of the GPU's dense {:.0f} TFLOP/s\n",
               duration(plan.seconds), 100 * plan.share, plan.flops_per_second / 1e12);
  } else {
    fmt::print("  time            about {} at three quarters of the {:.0f} GFLOP/s measured here\n",
               duration(plan.seconds), plan.flops_per_second / 1e9);
  }
}

/// Of one rank, and of every power of two up to the number asked for.
Json print_ranks(const Recipe& recipe, const PlanOptions& options) {
  const std::vector<RanksPlan> plans = plan_ranks(recipe, options.ranks, options.cluster);
  Json out = Json::array();
  if (!options.json) {
    fmt::print("{}", described(options.cluster));
    fmt::print("{:>7} {:>7} {:>15} {:>11} {:>15} {:>10} {:>10} {:>10} {:>8} {:>13} {:>11}\n", "ranks", "slots",
               "tokens a step", "GiB a rank", "GB sent a rank", "compute s", "send s", "exposed s", "host s",
               "tokens/s", "time");
  }
  for (const RanksPlan& plan : plans) {
    if (!options.json) {
      fmt::print("{:>7} {:>7} {:>15} {:>11.1f} {:>15.2f} {:>10.4f} {:>10.4f} {:>10.4f} {:>8.4f} {:>13} {:>11}\n",
                 plan.ranks, plan.slots, grouped(plan.tokens_per_step), plan.memory / (1 << 30), plan.bytes_sent / 1e9,
                 plan.compute_seconds, plan.communication_seconds, plan.exposed_seconds, plan.host_seconds,
                 grouped(static_cast<std::int64_t>(static_cast<double>(plan.tokens_per_step) / plan.step_seconds())),
                 duration(plan.step_seconds() * static_cast<double>(recipe.train.steps)));
    }
    out.push_back(Json::Object{{"ranks", std::int64_t{plan.ranks}},
                               {"slots", plan.slots},
                               {"tokens_per_step", plan.tokens_per_step},
                               {"memory_bytes", plan.memory},
                               {"buckets", plan.buckets},
                               {"bytes_sent", plan.bytes_sent},
                               {"compute_seconds", plan.compute_seconds},
                               {"communication_seconds", plan.communication_seconds},
                               {"exposed_seconds", plan.exposed_seconds},
                               {"host_seconds", plan.host_seconds},
                               {"step_seconds", plan.step_seconds()},
                               {"serial_step_seconds", plan.serial_step_seconds()}});
  }
  return Json::Object{{"name", recipe.name}, {"assumptions", to_json(options.cluster)}, {"ranks", std::move(out)}};
}

}  // namespace

int run_plan(const PlanOptions& options) {
  std::vector<Recipe> recipes;
  if (is_pipeline(options.recipe)) {
    for (const Stage& stage : load_pipeline(options.recipe, options.sets).stages) {
      const bool trains =
          stage.kind == StageKind::train || stage.kind == StageKind::pretrain || stage.kind == StageKind::refine;
      if (trains) recipes.push_back(stage.recipe);
    }
  } else {
    recipes.push_back(load_recipe(options.recipe, options.sets));
  }
  Json all = Json::array();
  for (const Recipe& recipe : recipes) {
    if (options.ranks > 1) {
      all.push_back(print_ranks(recipe, options));
      continue;
    }
    const RunPlan plan = plan_run(recipe, true);
    if (options.json) {
      all.push_back(to_json(recipe, plan));
    } else {
      print(recipe, plan);
    }
  }
  if (options.json) fmt::print("{}\n", (recipes.size() == 1 ? all.as_array()[0] : all).dump(2));
  return 0;
}

}  // namespace unfurl::train
