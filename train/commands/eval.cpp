#include <fmt/format.h>

#include "train/commands.h"
#include "train/trainer/evaluate_run.h"
#include "train/trainer/evaluation_report.h"

namespace unfurl::train {

int run_eval(const EvalOptions& options) {
  const RunEvaluation found = evaluate_run(options.run, options.sets, options.pairs);
  if (options.json) {
    fmt::print("{}\n", to_json(found).dump(2));
    return 0;
  }
  fmt::print("{}\nbits per byte of held-out prompts (opening: of those that open with their query):\n\n{}\n{}",
             found.checkpoint.string(), text_table(type_table(found)), text_table(comparison_table({found})));
  return 0;
}

}  // namespace unfurl::train
