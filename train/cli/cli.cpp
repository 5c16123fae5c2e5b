#include "train/cli/cli.h"

#include <poll.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <new>
#include <stdexcept>

#include "core/comm/communicator.h"
#include "core/error.h"
#include "kernels/thread_pool.h"
#include "train/cli/arguments.h"
#include "train/log.h"
#include "train/trainer/signals.h"

namespace unfurl::train {
namespace {

/// Before the first kernel asks: kernels know no user's errors.
void check_threads() {
  try {
    kernels::ThreadPool::threads_asked();
  } catch (const std::invalid_argument& error) {
    user_error("{}", error.what());
  }
}

/// True where standard output is a pipe whose reader has gone.
bool reader_has_gone() {
  pollfd output{.fd = STDOUT_FILENO, .events = POLLOUT, .revents = 0};
  return ::poll(&output, 1, 0) > 0 && (output.revents & POLLERR) != 0;
}

/// Standard output may be a full disk, of which nothing has been said yet; a reader that has had enough is no failure.
int with_flushed_output(int code) {
  const bool written = std::fflush(stdout) == 0 && std::ferror(stdout) == 0;
  if (written || reader_has_gone()) return code;
  report_error("cannot write all of the output: is the disk full?");
  return code == 0 ? 1 : code;
}

/// Nothing where another rank says what is wrong with the command line.
Action parse_as_rank(int argc, const char* const* argv) {
  try {
    return parse_arguments(argc, argv);
  } catch (const UserError&) {
    if (first_rank_of_host()) throw;
    return {};
  }
}

}  // namespace

int run_cli(int argc, const char* const* argv) {
  // A reader that goes away must not end a training run.
  std::signal(SIGPIPE, SIG_IGN);
  end_without_half_written_files();
  int code = 0;
  try {
    const Action action = parse_as_rank(argc, argv);
    check_threads();
    code = action ? action() : 0;
  } catch (const UserError& e) {
    report_error("{}", e.what());
    code = 2;
  } catch (const std::bad_alloc&) {
    report_error("out of memory");
    code = 1;
  } catch (const std::exception& e) {
    code = 1;
    if (std::ferror(stdout) == 0) {
      report_error("{}", e.what());
    } else if (reader_has_gone()) {  // `unfurl ... | head` has what it asked for
      code = 0;
    }
  }
  return with_flushed_output(code);
}

}  // namespace unfurl::train
