#include "train/trainer/ranks_plan.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/error.h"
#include "train/trainer/plan.h"

namespace unfurl::train {
namespace {

double peak_of(const Cluster& cluster) {
  const double peak = cluster.peak > 0 ? cluster.peak : dense_peak(cluster.gpu);
  if (peak <= 0) user_error("the peak of a \"{}\" is not known here; give it: --peak TFLOPS", cluster.gpu);
  return peak;
}

}  // namespace

std::vector<RanksPlan> plan_ranks(const Recipe& recipe, int ranks, const Cluster& cluster) {
  if (ranks < 1 || (ranks & (ranks - 1)) != 0) user_error("--ranks {} is no power of two", ranks);
  const double peak = peak_of(cluster);
  std::vector<RanksPlan> out;
  for (int r = 1; r <= ranks; r *= 2) {
    Recipe grown = recipe;
    grown.device = DeviceChoice::cuda;
    grown.precision = Precision::bf16;
    grown.batch.slots = std::max<std::int64_t>(grown.batch.slots, r);
    const RunPlan one = plan_run(grown, false, r);
    RanksPlan plan;
    plan.ranks = r;
    plan.slots = grown.batch.slots;
    plan.tokens_per_step = one.tokens_per_step;
    plan.memory = static_cast<double>(one.allocator_peak);
    const double tokens = static_cast<double>(one.tokens_per_step) / r;
    plan.compute_seconds = tokens * one.flops_per_token / (peak * cluster.share);
    plan.host_seconds = tokens * std::min<double>(static_cast<double>(cluster.ranks_per_node), r) / cluster.host_rate;
    const bool sharded = recipe.optimizer.name == OptimizerKind::adamw;
    const double each = static_cast<double>(r - 1) / r * static_cast<double>(one.trained);  // weights to others
    const double near = std::min<double>(static_cast<double>(cluster.ranks_per_node), r) - 1;
    const double leaves = r > 1 ? 1 - near / (r - 1) : 0;
    const auto seconds = [&](double bytes, Index buckets) {
      return std::max(bytes * (1 - leaves) / cluster.node_bandwidth, bytes * leaves / cluster.network_bandwidth) +
             static_cast<double>(buckets) * (r - 1) * cluster.latency;
    };
    const double sum_bytes = each * 4, back_bytes = each * (sharded ? 2 : 4);
    // Where every rank updates everything, sums come back at once.
    const double sums = seconds(sum_bytes, one.buckets) + (sharded ? 0 : seconds(back_bytes, one.buckets));
    const double back = sharded ? seconds(back_bytes, one.buckets) : 0;
    const double share = static_cast<double>(one.last_bucket) / static_cast<double>(one.trained);
    const double last = seconds(sum_bytes * share, 1) + (sharded ? 0 : seconds(back_bytes * share, 1));
    plan.buckets = one.buckets;
    plan.bytes_sent = sum_bytes + back_bytes;
    plan.communication_seconds = sums + back;
    const double beside =
        plan.compute_seconds * 2 / 3 * r / static_cast<double>(grown.batch.slots * grown.batch.micro_batches);
    plan.exposed_seconds =
        recipe.train.overlap && r > 1 ? std::max(sums - beside, last) + back : plan.communication_seconds;
    out.push_back(plan);
  }
  return out;
}

std::string described(const Cluster& cluster) {
  return fmt::format(
      "assumed, not measured: {} GPUs of {:.0f} TFLOP/s, of which one alone reaches {:.0f} %; {} a node, each with "
      "{:g} GB/s\nto the others there and {:g} GB/s to other nodes; {:g} us a message, of which each bucket of "
      "gradients takes one to\nevery other rank and one back; gradients are summed beside the backward pass of the "
      "last micro-batch where\ntrain.overlap is true, at no cost to it; a host makes the batches of its GPUs during "
      "the step before, at {:g}M tokens/s\n",
      cluster.gpu, peak_of(cluster) / 1e12, 100 * cluster.share, cluster.ranks_per_node, cluster.node_bandwidth / 1e9,
      cluster.network_bandwidth / 1e9, cluster.latency * 1e6, cluster.host_rate / 1e6);
}

Json to_json(const Cluster& cluster) {
  return Json::Object{{"gpu", cluster.gpu},
                      {"peak_flops", peak_of(cluster)},
                      {"share", cluster.share},
                      {"ranks_per_node", cluster.ranks_per_node},
                      {"node_bandwidth", cluster.node_bandwidth},
                      {"network_bandwidth", cluster.network_bandwidth},
                      {"latency", cluster.latency},
                      {"host_rate", cluster.host_rate}};
}

}  // namespace unfurl::train
