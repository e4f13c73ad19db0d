// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <chrono>
#include <utility>

#include "syncbn/communicator.hpp"

namespace syncbn::comm {

/// How long somebody has waited, held against the deadlines. Whoever waits looks at it at least
/// once a second.
///
/// Time in which this process was itself stopped (by SIGSTOP, or a debugger) is not waited time:
/// the others may have come meanwhile. So what passes between two looks counts as a second at most.
class DeadlineClock {
 public:
  using Clock = std::chrono::steady_clock;

  enum class Due {
    nothing,
    report,  ///< the first deadline has passed, and report_is_made has not been called since
    fail
  };

  /// Of a wait that has taken `waited` so far.
  explicit DeadlineClock(Deadlines deadlines, Clock::duration waited = {})
      : deadlines_(deadlines), waited_(waited) {}

  /// Tells what is due now. There is no report where it would come with the failure.
  Due look(Clock::time_point now = Clock::now()) {
    waited_ += std::min<Clock::duration>(now - std::exchange(last_look_, now), longest_step);
    if (waited_ >= deadlines_.fail) {
      return Due::fail;
    }
    const bool reports = waited_ >= deadlines_.report && !is_reported_;
    return reports ? Due::report : Due::nothing;
  }
  void report_is_made() { is_reported_ = true; }
  bool is_reported() const { return is_reported_; }

  /// A new wait begins.
  void restart(Clock::time_point now = Clock::now()) { *this = DeadlineClock(deadlines_, {}, now); }

  const Deadlines& deadlines() const { return deadlines_; }
  Clock::duration waited() const { return waited_; }

 private:
  static constexpr std::chrono::seconds longest_step{1};

  DeadlineClock(Deadlines deadlines, Clock::duration waited, Clock::time_point now)
      : deadlines_(deadlines), waited_(waited), last_look_(now) {}

  Deadlines deadlines_;
  Clock::duration waited_;
  Clock::time_point last_look_ = Clock::now();
  bool is_reported_ = false;
};

}  // namespace syncbn::comm
