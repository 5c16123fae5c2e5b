#include "train/trainer/signals.h"

#include <csignal>

namespace unfurl::train {
namespace {

volatile std::sig_atomic_t stop_signal = 0;
struct sigaction before_interrupt, before_terminate;

void remember(int signal) { stop_signal = signal; }

}  // namespace

StopSignals::StopSignals() {
  stop_signal = 0;
  struct sigaction action {};
  action.sa_handler = remember;
  action.sa_flags = SA_RESETHAND | SA_RESTART;
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
