#include "train/generate/expand.h"

#include <unistd.h>

#include <iostream>

#include "train/commands.h"
#include "train/trainer/load_run.h"
#include "train/trainer/placement.h"

namespace unfurl::train {

int run_expand(const ExpandOptions& options) {
  const Loader loader = [&](const std::filesystem::path& path) {
    return load_model(path, placement_of(options.device, options.precision), options.weights);
  };
  return run_expand(options, loader, std::cin, std::cout, ::isatty(STDIN_FILENO) != 0);
}

}  // namespace unfurl::train
