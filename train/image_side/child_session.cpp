#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>

#include "core/error.h"
#include "kernels/thread_pool.h"
#include "train/corpus/text.h"
#include "train/image_side/protocol.h"
#include "train/image_side/session.h"
#include "train/log.h"
#include "train/split_command.h"

namespace unfurl::train {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kLongestLine = std::size_t{64} << 20;  // bytes
constexpr std::size_t kLastWords = 4096;                     // bytes of standard error that are kept
constexpr int kMostWarnings = 10;                            // of a child, that are passed on

/// A pipe whose ends close at exec; a child gets the ones it is given.
struct Pipe {
  Pipe() {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) fail("cannot make a pipe: {}", std::strerror(errno));
    read = ends[0];
    write = ends[1];
  }
  ~Pipe() {
    close_end(read);
    close_end(write);
  }
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;
  static void close_end(int& end) {
    if (end >= 0) ::close(end);
    end = -1;
  }
  int read = -1, write = -1;
};

/// Writing to a process that has gone gives EPIPE, not a signal.
class PipeSignalsBlocked {
 public:
  PipeSignalsBlocked() {
    sigset_t set;
    ::sigemptyset(&set);
    ::sigaddset(&set, SIGPIPE);
    ::pthread_sigmask(SIG_BLOCK, &set, &before_);
  }
  ~PipeSignalsBlocked() {
    // One that came meanwhile is for nobody.
    sigset_t set;
    ::sigemptyset(&set);
    ::sigaddset(&set, SIGPIPE);
    const timespec at_once{};
    if (::sigismember(&before_, SIGPIPE) == 0) ::sigtimedwait(&set, nullptr, &at_once);
    ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }
  PipeSignalsBlocked(const PipeSignalsBlocked&) = delete;
  PipeSignalsBlocked& operator=(const PipeSignalsBlocked&) = delete;

 private:
  sigset_t before_;
};

class ChildSession : public ImageSession {
 public:
  explicit ChildSession(const ImageSideConfig& config) : timeout_(config.timeout_seconds) {
    start(program_and_arguments(config.command));
    try {
      converse({}, config.start_timeout_seconds, "does not say hello", [this](std::string_view line) {
        hello_ = parse_hello(line);
        return true;
      });
    } catch (...) {
      stop(0);
      throw;
    }
  }
  ~ChildSession() override { stop(healthy_ ? 2.0 : 0.0); }

  void exchange(const std::string& lines, const std::function<bool(std::string_view)>& on_line) override {
    healthy_ = false;  // until all is well
    converse(lines, timeout_, "is silent", on_line);
    healthy_ = true;
  }

 private:
  void start(const std::vector<std::string>& words) {
    std::vector<char*> arguments;
    for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
    arguments.push_back(nullptr);
    posix_spawn_file_actions_t files;
    ::posix_spawn_file_actions_init(&files);
    ::posix_spawn_file_actions_adddup2(&files, in_.read, 0);
    ::posix_spawn_file_actions_adddup2(&files, out_.write, 1);
    ::posix_spawn_file_actions_adddup2(&files, error_.write, 2);
    posix_spawnattr_t attributes;
    ::posix_spawnattr_init(&attributes);
    // A group of its own, so that what it starts ends with it; and signals as a program expects them.
    sigset_t none, reset;
    ::sigemptyset(&none);
    ::sigemptyset(&reset);
    ::sigaddset(&reset, SIGPIPE);
    ::posix_spawnattr_setpgroup(&attributes, 0);
    ::posix_spawnattr_setsigmask(&attributes, &none);
    ::posix_spawnattr_setsigdefault(&attributes, &reset);
    ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    const int problem = ::posix_spawnp(&pid_, arguments[0], &files, &attributes, arguments.data(), ::environ);
    ::posix_spawnattr_destroy(&attributes);
    ::posix_spawn_file_actions_destroy(&files);
    if (problem != 0) {
      pid_ = -1;
      if (problem == ENOENT || problem == EACCES || problem == ENOEXEC) {
        user_error("cannot start \"{}\": {}", words[0], std::strerror(problem));
      }
      fail("cannot start \"{}\": {}", words[0], std::strerror(problem));
    }
    Pipe::close_end(in_.read);
    Pipe::close_end(out_.write);
    Pipe::close_end(error_.write);
    for (const int end : {in_.write, out_.read, error_.read}) ::fcntl(end, F_SETFL, O_NONBLOCK);
  }

  void converse(std::string_view text, double timeout, const char* silent,
                const std::function<bool(std::string_view)>& on_line) {
    const PipeSignalsBlocked blocked;
    const auto patience = std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(timeout));
    auto last = Clock::now();
    while (true) {
      bool heard = false;
      for (std::size_t end; (end = heard_.find('\n', scanned_)) != std::string::npos;) {
        const std::string line = heard_.substr(0, end);
        heard_.erase(0, end + 1);
        scanned_ = 0;
        const std::string_view trimmed = trim(line);
        if (trimmed.empty()) continue;
        if (on_line(trimmed)) return;
        heard = true;
      }
      scanned_ = heard_.size();
      if (heard_.size() > kLongestLine) fail("prints a line of more than {} MiB", kLongestLine >> 20);
      if (heard) last = Clock::now();
      const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(last + patience - Clock::now()).count();
      if (left <= 0) fail("{} for {:g} s{}", silent, timeout, last_words());

      pollfd ends[3] = {{.fd = out_.read, .events = POLLIN, .revents = 0},
                        {.fd = error_.read, .events = POLLIN, .revents = 0},
                        {.fd = text.empty() ? -1 : in_.write, .events = POLLOUT, .revents = 0}};
      if (::poll(ends, 3, static_cast<int>(std::min<long long>(left + 1, 60'000))) < 0 && errno != EINTR) {
        fail("poll: {}", std::strerror(errno));
      }
      if (ends[1].revents != 0) read_error();
      if (ends[0].revents != 0 && !read_output()) fail("{}", death());
      if (ends[2].revents != 0) {
        const ssize_t count = ::write(in_.write, text.data(), text.size());
        if (count > 0) text.remove_prefix(static_cast<std::size_t>(count));
        // One that closes its input may still answer what it has read; its output's end tells.
        if (count < 0 && errno != EAGAIN && errno != EINTR) text = {};
      }
    }
  }

  /// False at the end of the output.
  bool read_output() {
    char bytes[1 << 16];
    const ssize_t count = ::read(out_.read, bytes, sizeof bytes);
    if (count > 0) heard_.append(bytes, static_cast<std::size_t>(count));
    return count > 0 || (count < 0 && (errno == EAGAIN || errno == EINTR));
  }

  void read_error() {
    char bytes[4096];
    ssize_t count = 0;
    while ((count = ::read(error_.read, bytes, sizeof bytes)) > 0) {
      words_.append(bytes, static_cast<std::size_t>(count));
      pass_on_warnings({bytes, static_cast<std::size_t>(count)});
      if (words_.size() > 2 * kLastWords) words_.erase(0, words_.size() - kLastWords);
    }
    if (count == 0) Pipe::close_end(error_.read);
  }

  /// Lines "warning: ..." of its standard error are for the user; the rest is noise while all is well.
  void pass_on_warnings(std::string_view bytes) {
    for (const char c : bytes) {
      if (c != '\n') {
        if (line_.size() < kLastWords) line_ += c;
        continue;
      }
      constexpr std::string_view kMark = "warning: ";
      if (line_.starts_with(kMark) && valid_utf8(line_) && warnings_ < kMostWarnings) {
        ++warnings_;
        warn("the image side: {}", trim(line_).substr(kMark.size()));
      }
      line_.clear();
    }
  }

  /// The last line of its standard error, for a message.
  std::string last_words() {
    if (error_.read >= 0) read_error();
    std::string_view text = trim(words_);
    const std::size_t start = text.find_last_of("\r\n");
    if (start != std::string_view::npos) text.remove_prefix(start + 1);
    return text.empty() ? std::string() : fmt::format("; its last words: {}", in_quotes(text, 300));
  }

  /// Of one whose output has ended.
  std::string death() {
    int status = 0;
    const auto end = Clock::now() + std::chrono::seconds(2);
    while (Clock::now() < end) {
      const pid_t waited = ::waitpid(pid_, &status, WNOHANG);
      if (waited == pid_) {
        ::kill(-pid_, SIGKILL);  // what it started
        pid_ = -1;
        const std::string how = WIFSIGNALED(status) ? fmt::format("was ended by signal {}", WTERMSIG(status))
                                                    : fmt::format("ended with exit code {}", WEXITSTATUS(status));
        return how + last_words();
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    return "closed its output" + last_words();
  }

  /// Closes its input and gives it `seconds` to end by itself.
  void stop(double seconds) {
    Pipe::close_end(in_.write);
    if (error_.read >= 0) read_error();  // for its warnings
    if (pid_ < 0) return;
    const auto end = Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
    while (Clock::now() < end) {
      if (::waitpid(pid_, nullptr, WNOHANG) == pid_) {
        ::kill(-pid_, SIGKILL);
        pid_ = -1;
        return;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    ::kill(-pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }

  Pipe in_, out_, error_;
  pid_t pid_ = -1;
  double timeout_;
  bool healthy_ = true;
  std::string heard_, words_, line_;  // line_: of standard error, as far as it has come
  int warnings_ = 0;
  std::size_t scanned_ = 0;  // of heard_, where there is no line end
};

}  // namespace

std::unique_ptr<ImageSession> start_child(const ImageSideConfig& config) {
  kernels::ThreadPool::unpin_this_thread();  // a child inherits the cores of the thread that starts it
  return std::make_unique<ChildSession>(config);
}

}  // namespace unfurl::train
