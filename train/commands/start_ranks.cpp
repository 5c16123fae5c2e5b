#include "train/commands/start_ranks.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

#include "core/error.h"
#include "kernels/thread_pool.h"
#include "train/trainer/signals.h"

namespace unfurl::train {
namespace {

constexpr int kNotFound = 127;

std::string contents(const std::string& path) {  // of a file without a size
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::vector<std::string> command_line(std::int64_t ranks) {
  const std::string line = contents("/proc/self/cmdline");
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
  return words;
}

/// In the child: does not return. `words` are arguments, and a null.
[[noreturn]] void become_mpirun(const std::vector<char*>& words) {
  ::setpgid(0, 0);  // a Ctrl-C is for the parent, who passes it on
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (const int none = ::open("/dev/null", O_RDONLY); none >= 0) ::dup2(none, STDIN_FILENO);
  ::execvp(words[0], words.data());
  ::_exit(kNotFound);
}

/// Whether mpirun has begun to start ranks: a signal that comes before reaches none of them.
bool has_ranks(pid_t mpirun) {
  const std::string path = "/proc/" + std::to_string(mpirun) + "/task/" + std::to_string(mpirun) + "/children";
  return !std::filesystem::exists(path) || !contents(path).empty();
}

}  // namespace

int start_ranks(std::int64_t ranks) {
  std::vector<std::string> words = command_line(ranks);
  if (::geteuid() == 0) {  // mpirun asks root whether that is meant
    ::setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 1);
    ::setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
  }
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  const StopSignals signals;
  const pid_t mpirun = ::fork();
  if (mpirun < 0) fail("cannot start mpirun: {}", std::strerror(errno));
  if (mpirun == 0) become_mpirun(arguments);
  int status = 0;
  for (bool told = false; ::waitpid(mpirun, &status, WNOHANG) == 0;) {
    if (!told && StopSignals::received() != 0 && has_ranks(mpirun)) told = ::kill(mpirun, SIGUSR1) == 0;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  const int code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  if (code == kNotFound) user_error("cannot run mpirun; install Open MPI (scripts/setup.sh does)");
  const int signal = StopSignals::received();
  return signal != 0 && code == 128 + SIGUSR1 ? 128 + signal : code;
}

}  // namespace unfurl::train
