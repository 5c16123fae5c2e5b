// A program run in a process of its own, with its streams captured.
#pragma once
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/support/temporary_folder.h"

namespace unfurl::tests {

struct Finished {
  int code = 0;  // exit code, or 256 and the signal that ended it
  std::string out, error;
};

struct ProcessSettings {
  std::vector<std::string> environment = {};  // "NAME=VALUE", over this process's own
  std::string input = {};                     // on standard input
  rlim_t file_bytes = RLIM_INFINITY;          // no file may grow beyond: a write fails as on a full disk
};

class Process {
 public:
  explicit Process(const std::vector<std::string>& command, const ProcessSettings& settings = {}) {
    std::ofstream(folder_ / "in", std::ios::binary) << settings.input;
    // All that takes memory is done before the fork: other threads may hold its locks.
    const std::string in = (folder_ / "in").string(), out = (folder_ / "out").string(),
                      error = (folder_ / "error").string();
    std::vector<std::string> environment = settings.environment;
    for (char** entry = ::environ; *entry != nullptr; ++entry) environment.emplace_back(*entry);
    std::vector<char*> arguments, variables;
    for (const std::string& argument : command) arguments.push_back(const_cast<char*>(argument.c_str()));
    for (const std::string& variable : environment) variables.push_back(const_cast<char*>(variable.c_str()));
    arguments.push_back(nullptr);
    variables.push_back(nullptr);
    pid_ = ::fork();
    if (pid_ < 0) throw std::runtime_error("cannot fork");
    if (pid_ > 0) return;
    for (const int signal : {SIGINT, SIGTERM, SIGHUP}) ::signal(signal, SIG_DFL);  // a background job ignores some
    if (settings.file_bytes != RLIM_INFINITY) {
      const rlimit limit{settings.file_bytes, settings.file_bytes};
      ::signal(SIGXFSZ, SIG_IGN);
      ::setrlimit(RLIMIT_FSIZE, &limit);
    }
    const int kWrite = O_WRONLY | O_CREAT | O_TRUNC;
    if (::dup2(::open(in.c_str(), O_RDONLY), 0) == 0 && ::dup2(::open(out.c_str(), kWrite, 0600), 1) == 1 &&
        ::dup2(::open(error.c_str(), kWrite, 0600), 2) == 2) {
      ::execve(arguments[0], arguments.data(), variables.data());
    }
    ::_exit(127);
  }
  ~Process() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    wait();
  }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  void send(int signal) const { ::kill(pid_, signal); }

  /// True as soon as `holds()` is; false where the process has ended, or after `seconds`.
  template <class Condition>
  bool wait_until(const Condition& holds, double seconds = 300) const {
    const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
    while (std::chrono::steady_clock::now() < end) {
      if (holds()) return true;
      siginfo_t ended{};
      if (::waitid(P_PID, static_cast<id_t>(pid_), &ended, WEXITED | WNOHANG | WNOWAIT) != 0 || ended.si_pid != 0) {
        return false;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return false;
  }

  Finished wait() {
    int status = 0;
    while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    pid_ = -1;
    const int code = WIFEXITED(status) ? WEXITSTATUS(status) : 256 + WTERMSIG(status);
    return {code, read("out"), read("error")};
  }

 private:
  std::string read(const char* name) const {
    std::ifstream file(folder_ / name, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  TemporaryFolder folder_;
  pid_t pid_ = -1;
};

inline Finished run_process(const std::vector<std::string>& command, const ProcessSettings& settings = {}) {
  return Process(command, settings).wait();
}

}  // namespace unfurl::tests
