// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <memory>
#include <span>
#include <string>

namespace syncbn::comm {

/// How messages travel between the ranks of a group. What they mean, and whether the ranks agree on
/// it, is Group's business.
class Transport {
 public:
  virtual ~Transport() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;

  /// Collective. Sums `message` over the ranks in place and leaves the same bits on each. The
  /// lengths are known to be equal. Throws CommError if a rank does not come within the timeout,
  /// and whenever the sum may be wrong.
  virtual void all_reduce(std::span<double> message) = 0;

  /// Collective. The transport of the ranks with the same color, ordered by rank here. `colors`
  /// holds every rank's.
  virtual std::unique_ptr<Transport> split(std::span<const int> colors) = 0;
};

/// `timeout` if it is above 0, at most a year, so that it can be added to any clock. Throws
/// InvalidArgument for others.
std::chrono::milliseconds validated(std::chrono::milliseconds timeout);

/// For messages: "0.5 s".
std::string in_seconds(std::chrono::milliseconds time);

}  // namespace syncbn::comm
