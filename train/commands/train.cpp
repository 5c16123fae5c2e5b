#include "core/comm/agree.h"
#include "train/commands.h"
#include "train/log.h"
#include "train/trainer/trainer.h"

namespace unfurl::train {

int run_train(const TrainOptions& options) {
  const std::unique_ptr<Communicator> ranks = open_communicator(options.timeout);
  set_log_rank(ranks->rank());
  try {
    Recipe recipe;
    agree(*ranks, "recipe", [&] { recipe = load_recipe(options.recipe, options.sets); });
    return train_stage(recipe, {.fresh = options.fresh, .profile = options.profile, .ranks = ranks.get()}).exit_code;
  } catch (const Agreed& agreed) {  // rank 0 says it for all
    if (ranks->rank() == 0) throw;
    return dynamic_cast<const UserError*>(&agreed) != nullptr ? 2 : 1;
  } catch (...) {
    ranks->abandon();
    throw;
  }
}

}  // namespace unfurl::train
