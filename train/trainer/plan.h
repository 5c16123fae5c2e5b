// What a recipe will take, before it runs.
#pragma once
#include <map>
#include <string>

#include "kernels/types.h"
#include "train/recipe/recipe.h"
#include "train/trainer/placement.h"

namespace unfurl::train {

struct RunPlan {
  Index parameters = 0, trained = 0;      // all, and those that are not frozen
  Index tokens_per_step = 0, tokens = 0;  // rows of micro-batches, padding included
  Index buckets = 0, last_bucket = 0;     // in which ranks sum gradients, and elements of the one that is whole last
  double flops_per_token = 0;             // 4 N + 2 (trained N) + 6 L T d, training
  std::size_t allocator_peak = 0;         // bytes of the device; from a step on a device that only keeps the books
  std::map<std::string, std::size_t> allocator_peak_by_name;
  std::size_t process_peak = 0;  // bytes of the CPU: the allocator's there and what a process needs beside it
  Placement placement;
  double flops_per_second = 0;  // 0 where it is not known: measured here on a matrix product, or what the GPU can do
  double share = 0;             // of that rate that training is assumed to reach
  double seconds = 0;           // of training, at that share
};

/// `recipe.model.vocab_size` 0 stands for the tokenizer's: of the file where it is there, else as the recipe wants it.
/// With `measure`, the CPU's speed is measured for a moment, where the recipe trains there. The device need not be
/// here. With several ranks the memory is that of one of them, and the time is left out.
RunPlan plan_run(Recipe recipe, bool measure, int ranks = 1);

/// FLOP/s of dense bf16 products with fp32 sums on a GPU of this name, by its maker's data sheet; 0 where it is not
/// known here.
double dense_peak(const std::string& gpu);

}  // namespace unfurl::train
