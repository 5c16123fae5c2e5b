// What a recipe will take, before it runs.
#pragma once
#include <map>
#include <string>

#include "kernels/types.h"
#include "train/recipe/recipe.h"

namespace unfurl::train {

struct RunPlan {
  Index parameters = 0;
  Index tokens_per_step = 0, tokens = 0;  // rows of micro-batches, padding included
  double flops_per_token = 0;             // 6 N + 6 L T d, training
  std::size_t allocator_peak = 0;         // bytes; from a step on a device that only keeps the books
  std::map<std::string, std::size_t> allocator_peak_by_name;
  std::size_t process_peak = 0;  // bytes: the allocator's and what a process needs beside it
  double flops_per_second = 0;   // measured here on a matrix product; 0 where not measured
  double seconds = 0;            // of training, at an assumed share of that rate
};

/// `recipe.model.vocab_size` 0 stands for the tokenizer's: of the file where it is there, else as the recipe wants it.
/// With `measure`, the machine's speed is measured for a moment.
RunPlan plan_run(Recipe recipe, bool measure);

}  // namespace unfurl::train
