// A trained run with the pairs it has learned from and those it is judged on.
#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "train/data/loader.h"
#include "train/trainer/load_run.h"

namespace unfurl::train {

struct OpenRun {
  LoadedRun run;
  Recipe recipe;  // the run's own, with what was set over it
  std::vector<Source> training, held_out;
};

/// `sets` may lay device, precision and keys of eval, samples and data over the run's recipe. The held-out pairs are
/// those of the side that recipe.eval names, or all of the file `pairs` where it is not empty. Throws UserError where
/// there are none.
OpenRun open_run(const std::filesystem::path& path, const std::vector<std::string>& sets,
                 const std::filesystem::path& pairs = {});

}  // namespace unfurl::train
