// SPDX-License-Identifier: Apache-2.0
#include "app/stop_signals.hpp"

namespace syncbn::app {
namespace {

volatile std::sig_atomic_t has_come = 0;

}  // namespace

StopSignals::StopSignals() {
  has_come = 0;
  struct sigaction note = {};
  note.sa_handler = [](int) { has_come = 1; };
  note.sa_flags = SA_RESTART;
  sigaction(SIGUSR1, &note, &user_before_);
  sigaction(SIGTERM, &note, &terminate_before_);
}

StopSignals::~StopSignals() {
  sigaction(SIGUSR1, &user_before_, nullptr);
  sigaction(SIGTERM, &terminate_before_, nullptr);
}

bool StopSignals::caught() const {
  return has_come != 0;
}

}  // namespace syncbn::app
