#include "train/commands/run_command.h"

#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "core/error.h"
#include "train/log.h"
#include "train/split_command.h"

namespace unfurl::train {

void run_command(const std::string& command) {
  std::vector<std::string> words = program_and_arguments(command);
  if (words.empty()) user_error("a command of this stage is empty; name a program");
  info("$ {}", fmt::join(split_command(command), " "));
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  pid_t child = 0;
  if (const int error = ::posix_spawnp(&child, arguments[0], nullptr, nullptr, arguments.data(), ::environ);
      error != 0) {
    user_error("cannot run {}: {}; install it, or name it with its path", words[0], std::strerror(error));
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFSIGNALED(status)) fail("{} was ended by signal {}", words[0], WTERMSIG(status));
  if (WEXITSTATUS(status) != 0) {
    fail("{} ended with code {}: its messages are above; run again, and what is done is skipped", words[0],
         WEXITSTATUS(status));
  }
}

}  // namespace unfurl::train
