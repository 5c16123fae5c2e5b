#include "train/trainer/signals.h"

#include <csignal>

#include "core/files.h"

namespace unfurl::train {
namespace {

volatile std::sig_atomic_t stop_signal = 0;
constexpr int kSignals[] = {SIGINT, SIGTERM, SIGHUP, SIGUSR1};
struct sigaction before[std::size(kSignals)];

/// A second signal of the kind ends the program at once.
void remember(int signal) {
  stop_signal = signal;
  for (std::size_t i = 0; i < std::size(kSignals); ++i) {
    if (kSignals[i] == signal) sigaction(signal, &before[i], nullptr);
  }
}

/// Its disposition is the default again: raised once more, the signal ends the program when this returns.
void remove_and_end(int signal) {
  remove_unfinished_files();
  std::raise(signal);
}

}  // namespace

void end_without_half_written_files() {
  struct sigaction action {};
  action.sa_handler = remove_and_end;
  action.sa_flags = SA_RESETHAND;
  sigemptyset(&action.sa_mask);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    struct sigaction now {};
    sigaction(signal, nullptr, &now);
    if (now.sa_handler == SIG_DFL) sigaction(signal, &action, nullptr);
  }
}

StopSignals::StopSignals() {
  stop_signal = 0;
  struct sigaction action {};
  action.sa_handler = remember;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  for (std::size_t i = 0; i < std::size(kSignals); ++i) {
    sigaction(kSignals[i], nullptr, &before[i]);
    // One that is ignored, as nohup does with SIGHUP, stays so.
    if (before[i].sa_handler != SIG_IGN) sigaction(kSignals[i], &action, nullptr);
  }
}

StopSignals::~StopSignals() {
  for (std::size_t i = 0; i < std::size(kSignals); ++i) sigaction(kSignals[i], &before[i], nullptr);
}

int StopSignals::received() { return stop_signal; }

}  // namespace unfurl::train
