#pragma once
#include <filesystem>

namespace unfurl::train {

/// unfurl export: a checkpoint to generate with or to start from, without an optimiser's state and with low-rank
/// matrices merged into the weights that they are for.
struct ExportOptions {
  std::filesystem::path run;  // a run or checkpoint folder
  std::filesystem::path out;  // a folder that holds no run
};
int run_export(const ExportOptions& options);

}  // namespace unfurl::train
