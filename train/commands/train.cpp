#include "core/comm/agree.h"
#include "core/error.h"
#include "train/commands.h"
#include "train/commands/start_ranks.h"
#include "train/log.h"
#include "train/trainer/step.h"
#include "train/trainer/trainer.h"

namespace unfurl::train {

int run_train(const TrainOptions& options) {
  if (options.ranks > 1) {
    if (ranks_of_environment() > 1)
      user_error("--ranks is for one process, but mpirun has started several: leave it out");
    // What all of them would say is said once, before there are any.
    slots_per_rank(load_recipe(options.recipe, options.sets), static_cast<int>(options.ranks));
    mpi_plugin();
    return start_ranks(options.ranks);
  }
  if (!first_rank_of_host() && !has_mpi_plugin()) return 0;
  const std::unique_ptr<Communicator> ranks = open_communicator(options.timeout);
  set_log_rank(ranks->rank());
  try {
    share_gpus(*ranks);
    Recipe recipe;
    agree(*ranks, "recipe", [&] { recipe = load_recipe(options.recipe, options.sets); });
    return train_stage(recipe, {.fresh = options.fresh, .profile = options.profile, .ranks = ranks.get()}).exit_code;
  } catch (const Agreed&) {
    // Rank 0 says it for all, and its code is that of the run: mpirun ends a job with the first rank that fails, and
    // what rank 0 has to say must not be lost by that.
    if (ranks->rank() == 0) throw;
    return 0;
  } catch (...) {
    ranks->abandon();
    throw;
  }
}

}  // namespace unfurl::train
