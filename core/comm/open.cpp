#include <dlfcn.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "core/comm/communicator.h"
#include "core/device.h"
#include "core/error.h"

namespace unfurl {
namespace {

namespace fs = std::filesystem;

constexpr const char* kPlugin = "libunfurl_mpi.so";

/// Beside the program, or where it is installed: ../lib.
fs::path plugin_path() {
  std::error_code error;
  const fs::path folder = fs::read_symlink("/proc/self/exe", error).parent_path();
  for (const fs::path& path : {folder / kPlugin, folder / "../lib" / kPlugin}) {
    if (fs::exists(path, error)) return path;
  }
  return {};
}

std::unique_ptr<Transport> open_mpi() {
  const fs::path path = mpi_plugin();
  // Open MPI's own components look for its symbols among all that are loaded.
  void* const library = dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL);
  if (library == nullptr) fail("cannot load {}: {}; install Open MPI", path.string(), dlerror());
  const auto open = reinterpret_cast<OpenTransport*>(dlsym(library, "unfurl_open_transport"));
  if (open == nullptr) fail("{} is no plugin of this program; build it again", path.string());
  return std::unique_ptr<Transport>(open());
}

}  // namespace

fs::path mpi_plugin() {
  const fs::path path = plugin_path();
  if (path.empty()) {
    fail(
        "several ranks need {}, which is not beside the program; install libopenmpi-dev (scripts/setup.sh does) and "
        "build again",
        kPlugin);
  }
  return path;
}

bool has_mpi_plugin() { return !plugin_path().empty(); }

bool first_rank_of_host() {
  for (const char* name : {"OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "SLURM_LOCALID"}) {
    if (const char* const text = std::getenv(name)) return ranks_of_environment() == 1 || std::atoi(text) == 0;
  }
  return true;
}

int ranks_of_environment() {
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_SIZE"}) {
    const char* const text = std::getenv(name);
    int ranks = 0;
    if (text != nullptr && std::from_chars(text, text + std::strlen(text), ranks).ec == std::errc() && ranks > 0) {
      return ranks;
    }
  }
  // srun sets the size in this variable, for programs that are no part of an MPI run too: only beside PMIx.
  if (const char* const tasks = std::getenv("SLURM_NTASKS"); tasks != nullptr && std::getenv("PMIX_RANK") != nullptr) {
    return std::max(1, std::atoi(tasks));
  }
  return 1;
}

std::unique_ptr<Communicator> open_communicator(double timeout) {
  if (ranks_of_environment() == 1) return std::make_unique<Communicator>();
  return std::make_unique<Communicator>(open_mpi, timeout);
}

void share_gpus(Communicator& communicator) {
  if (communicator.size() == 1) return;
  choose_gpu(gpu_of_rank(communicator.gather_texts("GPUs", visible_gpus()), communicator.rank()));
}

int gpu_of_rank(const std::vector<std::string>& visible, int rank) {
  return static_cast<int>(std::count(visible.begin(), visible.begin() + rank, visible[static_cast<std::size_t>(rank)]));
}

}  // namespace unfurl
