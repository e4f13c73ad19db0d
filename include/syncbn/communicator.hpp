// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
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
/// Likewise, but to throw at `fail`.
Deadlines default_deadlines(std::chrono::milliseconds fail);

/// Called with a text of one line or a few, from the thread that waits, when a rank has been
/// missing for `Deadlines::report`, and when it came after all (but for sums on a device's stream):
/// a program's log is the place for it. One for the process, none at first; an empty one turns
/// reports off.
using ReportHandler = std::function<void(std::string_view text)>;
void set_report_handler(ReportHandler handler);

/// Where the flight records of communicators go that fail: each rank's last thousand exchanges as a
/// JSON file of its own (Communicator::flight_record). At first what SYNCBN_FLIGHT_RECORD in the
/// environment names; an empty path: nowhere. `syncbn info --flight-record` reads them.
void set_flight_record_directory(std::filesystem::path directory);

/// A sum under way: see Communicator::start. Means something to the rank that got it only.
struct PendingSum {
  std::size_t ticket = 0;
  std::int64_t sequence = 0;
  std::size_t length = 0;
  std::int64_t time = 0;  ///< that its start took, in a unit of the library's
};

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

  /// Collective. Begins an all_reduce and does not wait. `data` stay where they are, and are not to
  /// be touched until `finish`. Several may be under way; all ranks start them in the same order.
  /// Where one is never finished, the communicator can only be destroyed.
  PendingSum start(std::span<double> data) const;
  /// Collective. Waits until the data hold the sum. Each once, in any order; sums of different
  /// communicators in the same order on all ranks. Throws InvalidArgument for others.
  void finish(const PendingSum& sum) const;

  /// Collective. Every rank's `mine` (equal lengths), one after the other in rank order. Costs an
  /// all_reduce of size() times the length: meant for reports, not for the training loop.
  std::vector<double> all_gather(std::span<const double> mine) const;

  /// Collective. The sub-group of the ranks that gave the same color, in the order of their ranks.
  /// Throws NotConfigured for a custom communicator of more than one rank.
  Communicator split(int color) const;

  /// Collective. Sub-groups of consecutive ranks, each as small as has at least `samples` samples,
  /// of which this rank has `mine`; the last takes those left over. So statistics can be taken of
  /// as many samples on any number of ranks. `samples` is the same on all ranks.
  Communicator split_by_samples(std::int64_t mine, std::int64_t samples) const;

  Counters counters() const;

  /// The last thousand exchanges of this rank as JSON: what, how many values, when. Also after a
  /// failure; not collective.
  std::string flight_record() const;

  /// For transports made elsewhere in this library.
  explicit Communicator(std::shared_ptr<comm::Group> group);
  comm::Group& group() const { return *group_; }

 private:
  std::shared_ptr<comm::Group> group_;
};

}  // namespace syncbn
