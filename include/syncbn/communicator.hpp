// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <chrono>
#include <concepts>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

namespace syncbn {

namespace comm {
class Group;
}

/// How long a collective waits for a missing rank before it throws, unless told otherwise.
inline constexpr std::chrono::milliseconds default_timeout = std::chrono::seconds(300);
/// How long before it reports who is missing.
inline constexpr std::chrono::milliseconds default_report = std::chrono::seconds(10);

/// How long a collective waits for a missing rank.
struct Deadlines {
  std::chrono::milliseconds fail = default_timeout;   ///< then it throws CommError
  std::chrono::milliseconds report = default_report;  ///< then it reports, once, who is
                                                      ///< missing: set_report_handler

  constexpr Deadlines() = default;
  /// Reports at 10 s, or halfway if that comes first.
  template <class Rep, class Period>
  requires std::convertible_to<std::chrono::duration<Rep, Period>, std::chrono::milliseconds>
  constexpr Deadlines(std::chrono::duration<Rep, Period> fail_at)
      : fail(fail_at), report(std::min(default_report, fail - fail / 2)) {}
  constexpr Deadlines(std::chrono::milliseconds fail_at, std::chrono::milliseconds report_at)
      : fail(fail_at), report(report_at) {}
};

/// From the environment: SYNCBN_TIMEOUT and SYNCBN_REPORT_AFTER in seconds; else 300 and 10. Throws
/// InvalidArgument if they are not numbers above 0.
Deadlines default_deadlines();

/// Called with a line of text, from the thread that waits, when a rank has been missing for
/// `Deadlines::report`: a program's log is the place for it. One for the process, none at first; an
/// empty one turns reports off.
using ReportHandler = std::function<void(std::string_view line)>;
void set_report_handler(ReportHandler handler);

/// What went over a communicator since it was made, on this rank.
struct Counters {
  std::int64_t exchanges = 0;  ///< collectives completed
  std::int64_t bytes = 0;      ///< their messages' lengths added up, each counted once [B]
  double seconds = 0;          ///< time inside them, waiting for other ranks included [s]
};

/// The ranks over which statistics are taken: a copyable handle, cheap to pass by value.
///
/// Copies share one group. Calls marked collective must be made by every rank of the group, in the
/// same order; if ranks disagree on what is exchanged, or one does not come within the timeout, the
/// call throws CommError on the ranks that are in it, and the communicator is unusable from then
/// on. A rank's handle serves one thread at a time. MPI: see syncbn/mpi.hpp.
class Communicator {
 public:
  /// A group of one rank. Needs nothing.
  static Communicator self();

  /// `ranks` handles for as many threads of this process: element r is rank r's, to be moved to its
  /// thread. A rank whose last handle is destroyed has left; those who wait for it are told at
  /// once.
  static std::vector<Communicator> threads(int ranks, Deadlines deadlines = default_deadlines());

  /// Sums `data` over all ranks in place, leaving the same bits on every rank, or throws. All ranks
  /// call it in the same order with equal lengths.
  using AllReduce = std::function<void(std::span<double> data)>;

  /// Any other collective library. Every rank passes its own rank, the common size and its
  /// callback, which is not called in a group of one. Whether a missing rank is noticed is up to
  /// the callback. Such a group cannot be split.
  static Communicator custom(int rank, int size, AllReduce all_reduce);

  int rank() const;
  int size() const;

  /// Collective. Sums `data` over the ranks in place; the same bits on every rank. All ranks give
  /// the same length, and are told if they do not.
  void all_reduce(std::span<double> data) const;

  /// Collective. Every rank's `mine` (equal lengths), one after the other in rank order. Costs an
  /// all_reduce of size() times the length: meant for reports, not for the training loop.
  std::vector<double> all_gather(std::span<const double> mine) const;

  /// Collective. The sub-group of the ranks that gave the same color, in the order of their ranks.
  /// Throws NotConfigured for a custom communicator of more than one rank.
  Communicator split(int color) const;

  Counters counters() const;

  /// For transports made elsewhere in this library.
  explicit Communicator(std::shared_ptr<comm::Group> group);
  comm::Group& group() const { return *group_; }

 private:
  std::shared_ptr<comm::Group> group_;
};

}  // namespace syncbn
