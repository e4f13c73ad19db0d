// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <csignal>

namespace syncbn::app {

/// A StopSignals has SIGUSR1 and SIGTERM, while it exists, ask this process to stop instead of
/// ending it: schedulers send them some time before they take a job's hosts away. There may be one
/// at a time.
class StopSignals {
 public:
  StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;
  ~StopSignals();

  /// Returns whether one of them has come.
  bool caught() const;

 private:
  struct sigaction user_before_ = {};
  struct sigaction terminate_before_ = {};
};

}  // namespace syncbn::app
