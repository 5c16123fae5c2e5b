#include "train/generate/expand.h"

#include <unistd.h>

#include <iostream>

#include "train/commands.h"
#include "train/trainer/load_run.h"

namespace unfurl::train {

int run_expand(const ExpandOptions& options) {
  return run_expand(options, load_model, std::cin, std::cout, ::isatty(STDIN_FILENO) != 0);
}

}  // namespace unfurl::train
