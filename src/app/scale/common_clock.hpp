// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

#include "syncbn/communicator.hpp"

namespace syncbn::app::scale {

/// A time, or a length of time. [ns]
using Nanoseconds = std::int64_t;

/// Returns a text that is the same for all processes that read one kernel's clock, and differs
/// between hosts: the kernel's boot id.
std::string kernel_here();

/// A CommonClock gives the ranks of a group the same time, that of rank 0.
///
/// Ranks on rank 0's kernel read the same clock. For every other kernel the clock's offset lies
/// between bounds: no rank can leave an all_gather before the last one has entered it, so every
/// pair of ranks bounds it from one side. The least upper and the greatest lower bound over many
/// rounds, in which the one side and the other comes last, are as far apart as a message takes
/// there and back; the offset is taken to be in the middle.
class CommonClock {
 public:
  /// Collective over the group. `kernel` is the same for ranks whose steady_clock is the same.
  explicit CommonClock(Communicator group, const std::string& kernel = kernel_here());

  /// Collective. Bounds the offsets anew, since clocks drift apart: by up to 50 us in a second.
  /// Does nothing where all ranks read one kernel's clock.
  void synchronize();

  /// Returns the time since rank 0 made its clock.
  Nanoseconds now() const { return local_now() + offset_; }

  /// Turns what std::chrono::system_clock shows on this rank into the common time. [s since 1970]
  Nanoseconds from_system_clock(double since_1970) const;

  /// Returns how far this rank's time may have been from rank 0's when they were synchronized: the
  /// most of all times.
  Nanoseconds uncertainty() const { return uncertainty_; }
  bool one_kernel() const { return one_kernel_; }

 private:
  Nanoseconds local_now() const;

  Communicator group_;
  double kernel_;           ///< number of this rank's kernel: the lowest rank on it
  bool one_kernel_;         ///< all ranks are on one
  Nanoseconds origin_;      ///< of steady_clock, which local times are counted from
  Nanoseconds offset_ = 0;  ///< what a local time lacks to the common one
  Nanoseconds uncertainty_ = 0;
};

}  // namespace syncbn::app::scale
