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
#include <utility>
#include <vector>

#include "syncbn/export.h"

namespace syncbn {

namespace comm {
class Group;
struct Access;  // gives the library's own parts what a handle holds
}  // namespace comm

/// A collective waits this long for a missing rank before it throws, unless told otherwise.
inline constexpr std::chrono::milliseconds default_timeout = std::chrono::seconds(300);
/// A collective waits this long before it reports who is missing, unless told otherwise.
inline constexpr std::chrono::milliseconds default_report = std::chrono::seconds(10);

/// Deadlines say how long a collective waits for a missing rank.
struct Deadlines {
  std::chrono::milliseconds fail = default_timeout;   ///< wait before it throws CommError
  std::chrono::milliseconds report = default_report;  ///< wait before it reports, once, who is
                                                      ///< missing: see set_report_handler

  constexpr Deadlines() = default;
  /// Makes deadlines that report after 10 s, or after half of `fail_at` if that is shorter.
  template <class Rep, class Period>
  requires std::convertible_to<std::chrono::duration<Rep, Period>, std::chrono::milliseconds>
  constexpr Deadlines(std::chrono::duration<Rep, Period> fail_at)
      : fail(fail_at), report(std::min(default_report, fail - fail / 2)) {}
  constexpr Deadlines(std::chrono::milliseconds fail_at, std::chrono::milliseconds report_at)
      : fail(fail_at), report(report_at) {}
};

/// Returns the deadlines that SYNCBN_TIMEOUT and SYNCBN_REPORT_AFTER in the environment give, in
/// seconds; without them, 300 s and 10 s (half the timeout, if that is shorter). Throws
/// InvalidArgument if one of them is not a number above 0.
SYNCBN_API Deadlines default_deadlines();
/// Returns the same with `fail` in place of SYNCBN_TIMEOUT.
SYNCBN_API Deadlines default_deadlines(std::chrono::milliseconds fail);

/// A ReportHandler is called when a rank has been missing for `Deadlines::report`, and again when
/// that rank came after all (not for sums on a device's stream). `text` is one line or a few, meant
/// for the program's log. The call is made from the thread that waits.
using ReportHandler = std::function<void(std::string_view text)>;
/// Local. Sets the process's one handler; there is none at first. An empty one turns reports off.
SYNCBN_API void set_report_handler(ReportHandler handler);

/// Local. Sets the directory into which each rank of this process writes its flight record when its
/// communicator fails: the last thousand exchanges, as a JSON file of its own (see
/// Communicator::flight_record). At first it is what SYNCBN_FLIGHT_RECORD in the environment names;
/// with an empty path nothing is written. `syncbn info --flight-record` reads these files.
SYNCBN_API void set_flight_record_directory(std::filesystem::path directory);

/// A PendingSum identifies a sum that Communicator::start has begun, on the rank that began it. One
/// that was made without a sum identifies none.
class PendingSum {
  friend class Communicator;
  friend comm::Group;

  std::size_t ticket_ = 0;
  std::int64_t sequence_ = 0;
  std::size_t length_ = 0;
  std::int64_t time_ = 0;  ///< duration of its start and of looks at it [ticks]
};

/// Counters hold what one rank has exchanged over a communicator since it was made.
struct Counters {
  std::int64_t exchanges = 0;  ///< collectives completed
  std::int64_t bytes = 0;      ///< their messages' lengths added up, each counted once [B]
  double seconds = 0;          ///< time inside them, waiting for other ranks included [s]
};

/// A Communicator is a handle on a group of ranks, over which statistics are taken. It can be
/// copied, and is cheap to pass by value; copies share one group. syncbn/mpi.hpp makes one of MPI
/// ranks.
///
/// Calls marked "Collective" must be made by every rank of the group, in the same order. If ranks
/// disagree on what is exchanged, or one does not come within the timeout, the call throws
/// CommError on the ranks that are in it, and the communicator is unusable from then on. A rank's
/// handle serves one thread at a time.
class SYNCBN_API Communicator {
 public:
  /// Local. Makes a group of one rank, which needs neither MPI nor other threads.
  static Communicator self();

  /// Local. Makes a group of `ranks` threads of this process and returns their handles: element r
  /// is to be moved to the thread that acts as rank r. A rank leaves when its last handle is
  /// destroyed; ranks that wait for it are told at once. Throws InvalidArgument for less than one
  /// rank.
  static std::vector<Communicator> threads(int ranks, Deadlines deadlines = default_deadlines());

  /// Collective over `bootstrap`. Makes a group of the same ranks, which are processes (or threads)
  /// of one host, that sums through memory which they share: in a microsecond or so, without MPI.
  /// `bootstrap` serves to set it up and is not used afterwards; a custom group of a framework's
  /// ranks will do. The new group has deadlines of its own, and tells who is missing. It cannot be
  /// split. Throws NotConfigured on every rank if one cannot share memory with rank 0: on another
  /// host, in another container, of another user. A group of one rank shares nothing.
  static Communicator processes(const Communicator& bootstrap,
                                Deadlines deadlines = default_deadlines());

  /// An AllReduce sums `data` over all ranks in place and leaves the same bits on every rank, or
  /// throws. All ranks call it in the same order with equal lengths.
  using AllReduce = std::function<void(std::span<double> data)>;

  /// Local. Makes a group that sums with another collective library. Every rank passes its own
  /// rank, the common size and its callback, which is not called in a group of one. Whether a
  /// missing rank is noticed is up to the callback. Such a group cannot be split. Throws
  /// InvalidArgument unless 0 <= rank < size, and for an empty callback.
  static Communicator custom(int rank, int size, AllReduce all_reduce);

  int rank() const;
  int size() const;

  /// Collective. Sums `data` over the ranks in place and leaves the same bits on every rank. All
  /// ranks give the same length; throws CommError on them if they do not.
  void all_reduce(std::span<double> data) const;

  /// Collective. Begins an all_reduce and does not wait for it (but a custom group's callback runs
  /// inside this call). `data` must stay where they are and must not be touched until `finish`.
  /// Several sums may be under way; all ranks start them in the same order. If one is never
  /// finished, the communicator can only be destroyed.
  PendingSum start(std::span<double> data) const;
  /// Collective. Waits until the data of `sum` hold the sum. Each sum is finished once, in any
  /// order; sums of different communicators are finished in the same order on all ranks. Throws
  /// InvalidArgument for a sum that is not under way in this communicator.
  void finish(const PendingSum& sum) const;

  /// Collective. Returns every rank's `mine` (of equal lengths), one after the other in rank order.
  /// Costs an all_reduce of size() times the length: meant for reports, not for the training loop.
  std::vector<double> all_gather(std::span<const double> mine) const;

  /// Collective. Returns the sub-group of the ranks that gave the same color, in the order of their
  /// ranks. Throws NotConfigured for a custom communicator of more than one rank.
  Communicator split(int color) const;

  /// Collective. Splits the group into sub-groups of consecutive ranks and returns this rank's.
  /// Each is the smallest that has at least `samples` samples, where `mine` is how many this rank
  /// has; ranks left over join the last. So statistics can be taken of a given number of samples on
  /// any number of ranks. Throws as `split` does, and InvalidArgument on every rank if a `mine` is
  /// negative, or `samples` is below 1 or not the same on all ranks.
  Communicator split_by_samples(std::int64_t mine, std::int64_t samples) const;

  Counters counters() const;

  /// Local. Returns this rank's last thousand exchanges as JSON: what each was, how many values it
  /// had, and when. Works after a failure too.
  std::string flight_record() const;

 private:
  friend comm::Access;
  explicit Communicator(std::shared_ptr<comm::Group> group) : group_(std::move(group)) {}

  std::shared_ptr<comm::Group> group_;
};

}  // namespace syncbn
