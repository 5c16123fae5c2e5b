#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "core/comm/agree.h"
#include "core/error.h"
#include "kernels/thread_pool.h"
#include "train/commands.h"
#include "train/log.h"
#include "train/trainer/trainer.h"

namespace unfurl::train {

namespace {

/// Becomes mpirun, with this command line but for --ranks.
[[noreturn]] void start_ranks(std::int64_t ranks) {
  std::ifstream own("/proc/self/cmdline", std::ios::binary);  // a file without a size
  const std::string line{std::istreambuf_iterator<char>(own), {}};
  std::vector<std::string> words = {"mpirun", "-n", std::to_string(ranks)};
  if (ranks > kernels::ThreadPool::available_cores()) words.emplace_back("--oversubscribe");
  for (std::size_t at = 0; at < line.size();) {
    const std::string word = line.c_str() + at;
    const bool first = at == 0;
    at += word.size() + 1;
    if (word == "--ranks") {
      at += std::string_view(line.c_str() + at).size() + 1;
    } else if (!word.starts_with("--ranks=")) {
      words.push_back(first ? std::filesystem::read_symlink("/proc/self/exe").string() : word);
    }
  }
  if (::geteuid() == 0) {  // mpirun asks root whether that is meant
    ::setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 1);
    ::setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
  }
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  ::execvp(arguments[0], arguments.data());
  user_error("cannot run mpirun: {}; install Open MPI (scripts/setup.sh does)", std::strerror(errno));
}

}  // namespace

int run_train(const TrainOptions& options) {
  if (options.ranks > 1) {
    if (ranks_of_environment() > 1)
      user_error("--ranks is for one process, but mpirun has started several: leave it out");
    start_ranks(options.ranks);
  }
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
