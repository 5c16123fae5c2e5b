// What a step takes on many GPUs, from stated speeds: nothing here is measured.
//
//   compute         tokens of a rank * FLOPs a token / (peak * share)
//   communication   per rank and step: (R - 1) / R of the f32 gradients to the ranks that own them, and as much of the
//                   updated weights, in the precision of the products, back. What stays within a node takes the node's
//                   bandwidth, what leaves it the network's, both at once. They go in buckets, as the trainer makes
//                   them (core/comm/data_parallel.h): each of the 2 (R - 1) messages of each bucket has a latency, one
//                   after the other
//   exposed         of it, what a step waits for. Gradients are summed beside the backward pass of a rank's last
//                   micro-batch, two thirds of its compute: what takes longer is exposed, and always the bucket that is
//                   whole last. The weights' way back is exposed, and with train.overlap: false everything
//   host            of the micro-batches of its ranks, each made by its own, while their GPUs do the step before
//
// A step is compute plus what is exposed, or the host's work where that is longer: products beside which a collective
// runs are taken to lose nothing by it, which is optimistic, and a step that overlaps nothing is told beside it. A rank
// has at least one slot: beyond batch.slots ranks the batch grows with them.
#pragma once
#include <algorithm>
#include <string>
#include <vector>

#include "core/json.h"
#include "kernels/types.h"
#include "train/recipe/recipe.h"

namespace unfurl::train {

struct Cluster {
  std::string gpu = "H200";
  double peak = 0;                  // FLOP/s of a GPU; 0: dense_peak(gpu)
  double share = 0.4;               // of the peak that a step reaches on one
  Index ranks_per_node = 8;         // on one host
  double node_bandwidth = 450e9;    // bytes/s that a GPU sends within its node: NVLink 4, one direction
  double network_bandwidth = 50e9;  // bytes/s that a GPU sends out of it: 400 Gbit/s each
  double latency = 10e-6;           // s a message
  double host_rate = 19e6;          // tokens/s of which a host makes micro-batches: about that of one core
};

struct RanksPlan {
  int ranks = 1;
  Index slots = 0;            // of the batch
  Index tokens_per_step = 0;  // of all ranks
  double memory = 0;          // bytes of a rank, in tensors
  Index buckets = 0;          // in which gradients go
  double bytes_sent = 0;      // a rank and step
  double compute_seconds = 0, communication_seconds = 0;
  double exposed_seconds = 0;  // of the communication
  double host_seconds = 0;     // beside both
  double step_seconds() const { return std::max(compute_seconds + exposed_seconds, host_seconds); }
  /// Where nothing overlaps that the ranks send.
  double serial_step_seconds() const { return std::max(compute_seconds + communication_seconds, host_seconds); }
};

/// For 1, 2, 4, ... `ranks` (a power of two) GPUs in bf16. Throws UserError for another number, and for a GPU whose
/// peak is neither known nor given.
std::vector<RanksPlan> plan_ranks(const Recipe& recipe, int ranks, const Cluster& cluster);

/// The assumptions, in words and lines.
std::string described(const Cluster& cluster);
Json to_json(const Cluster& cluster);

}  // namespace unfurl::train
