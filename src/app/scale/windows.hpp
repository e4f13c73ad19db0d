// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <vector>

#include "syncbn/communicator.hpp"

#include "app/scale/common_clock.hpp"
#include "app/scale/distribution.hpp"

namespace syncbn::app::scale {

/// A StoppingRule says when a measurement has been repeated often enough: when the interval is as
/// narrow as wanted, after the fewest repetitions and the least time; or else when its time is up,
/// but not before six repetitions, or 30 s.
struct StoppingRule {
  double wanted = 0.02;  ///< half width of the interval of the median, relative to the median
  std::size_t fewest = 20, most = 5000;  ///< repetitions
  double least_seconds = 0.2;
  double most_seconds = 1;      ///< twice that, if there are not the fewest repetitions yet
  bool waiting_counts = false;  ///< a repetition lasts from the first arrival, not from the last

  /// Returns whether a measurement ends after `count` repetitions and `seconds`, if its intervals
  /// are `precise` or not.
  bool ended_by(std::size_t count, double seconds, bool precise) const {
    constexpr std::size_t fewest_of_all = 6;  // of which a median has an interval
    constexpr double longest_of_all = 30;     // [s]
    if (count < fewest_of_all) {
      return seconds >= longest_of_all;
    }
    if (count >= most || seconds >= 2 * most_seconds) {
      return true;
    }
    return count >= fewest && (seconds >= most_seconds || (precise && seconds >= least_seconds));
  }
};

/// Arrivals hold when each rank of a group came to each repetition of something, and when it left,
/// on the group's common clock. [rank][repetition, ns]
struct Arrivals {
  std::vector<std::vector<Nanoseconds>> arrival, exit;

  std::size_t ranks() const { return arrival.size(); }
  std::size_t repetitions() const { return arrival.front().size(); }

  // Each returns a value for every repetition. [s]
  std::vector<double> after_last_arrival() const;   ///< from the last arrival to the last exit
  std::vector<double> spread() const;               ///< from the first arrival to the last
  std::vector<double> lag(std::size_t rank) const;  ///< from the first arrival to the rank's
  std::vector<double> from_first_arrival() const;   ///< from the first arrival to the last exit

  /// Returns the repetitions in which the spread was longer than the exchange itself usually is
  /// after the last arrival: those in which waiting mattered.
  std::vector<std::size_t> long_waits() const;
  /// Returns in which share of these repetitions the rank came last; 0 if there are none.
  double share_last(std::size_t rank, std::span<const std::size_t> repetitions) const;
};

/// Adds to a cell's entry how far each rank came behind the first, how often it came last, and how
/// often it did so where that meant a long wait.
void add_ranks(Json& entry, const Arrivals& arrivals, std::span<const int> members);

/// A Measurement is what was found of one task.
struct Measurement {
  Arrivals arrivals;
  std::size_t late = 0;  ///< repetitions in which some rank was not ready when its window began
};

struct Measurements {
  std::vector<Measurement> tasks;  ///< in the order of the tasks
  bool enough = false;  ///< the interval of every task is as narrow as wanted: else time ended it
};

/// Collective over the group. Repeats the tasks, each once in every repetition, in random order.
/// Every task has a window of time that begins at the same moment on all ranks (Hunold &
/// Carpen-Amarie, ReproMPI, IEEE TPDS 27(12), 2016). A rank that is late begins at once. Nothing is
/// discarded, but for two runs of each task beforehand that show how long its window must be.
Measurements measure_in_windows(std::span<const std::function<void()>> tasks,
                                const Communicator& group, CommonClock& clock,
                                const StoppingRule& rule);

}  // namespace syncbn::app::scale
