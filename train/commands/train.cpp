#include "train/commands.h"
#include "train/trainer/trainer.h"

namespace unfurl::train {

int run_train(const TrainOptions& options) {
  const Recipe recipe = load_recipe(options.recipe, options.sets);
  return train_stage(recipe, {.fresh = options.fresh, .profile = options.profile}).exit_code;
}

}  // namespace unfurl::train
