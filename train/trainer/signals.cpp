#include "train/trainer/signals.h"

#include <csignal>

#include "core/files.h"

namespace unfurl::train {
namespace {

volatile std::sig_atomic_t stop_signal = 0;
struct sigaction before_interrupt, before_terminate;

void remember(int signal) {
  stop_signal = signal;
  sigaction(signal, signal == SIGINT ? &before_interrupt : &before_terminate, nullptr);
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
    struct sigaction before {};
    sigaction(signal, nullptr, &before);
    if (before.sa_handler == SIG_DFL) sigaction(signal, &action, nullptr);
  }
}

StopSignals::StopSignals() {
  stop_signal = 0;
  struct sigaction action {};
  action.sa_handler = remember;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, &before_interrupt);
  sigaction(SIGTERM, &action, &before_terminate);
}

StopSignals::~StopSignals() {
  sigaction(SIGINT, &before_interrupt, nullptr);
  sigaction(SIGTERM, &before_terminate, nullptr);
}

int StopSignals::received() { return stop_signal; }

}  // namespace unfurl::train
