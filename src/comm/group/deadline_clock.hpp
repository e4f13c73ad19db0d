// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <chrono>
#include <concepts>
#include <utility>

#include "syncbn/communicator.hpp"

namespace syncbn::comm {

/// Adds up how long a wait has taken and compares it with the deadlines. The code that waits calls
/// `look` at least once a second.
///
/// Time in which this process was suspended (SIGSTOP, a debugger) does not count as waiting: other
/// ranks may have arrived meanwhile. So the time between two looks counts as one second at most.
class DeadlineClock {
 public:
  using Clock = std::chrono::steady_clock;

  enum class Due {
    nothing,
    report,  ///< Deadlines::report has passed, and report_is_made has not been called since
    fail     ///< Deadlines::fail has passed
  };

  /// Begins with a wait that has taken `waited` already.
  explicit DeadlineClock(Deadlines deadlines, Clock::duration waited = {})
      : deadlines_(deadlines), waited_(waited) {}

  /// Returns what is due now. No report is due any more once the wait is to fail.
  Due look(Clock::time_point now = Clock::now()) {
    waited_ += std::min<Clock::duration>(now - std::exchange(last_look_, now), longest_step);
    if (waited_ >= deadlines_.fail) {
      return Due::fail;
    }
    const bool reports = waited_ >= deadlines_.report && !is_reported_;
    return reports ? Due::report : Due::nothing;
  }

  /// Looks, and calls `report` or `fail` if that is due, with the deadline that has passed. `fail`
  /// ends the wait by throwing.
  template <std::invocable<std::chrono::milliseconds> Report,
            std::invocable<std::chrono::milliseconds> Fail>
  void look(Report report, Fail fail, Clock::time_point now = Clock::now()) {
    switch (look(now)) {
      case Due::nothing:
        break;
      case Due::report:
        report_is_made();
        report(deadlines_.report);
        break;
      case Due::fail:
        fail(deadlines_.fail);
        break;
    }
  }

  void report_is_made() { is_reported_ = true; }
  bool is_reported() const { return is_reported_; }

  /// Begins a new wait, with nothing waited and nothing reported.
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
