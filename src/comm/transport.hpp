// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace syncbn::comm {

/// How messages travel between the ranks of a group. What they mean, and whether the ranks agree on
/// it, is Group's business.
class Transport {
 public:
  virtual ~Transport() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;

  /// Collective. Begins to sum the ranks' messages and returns a number to finish it by. `message`
  /// is copied. All ranks start their messages in the same order; their lengths are known to be
  /// equal.
  virtual std::size_t start(std::span<const double> message) = 0;

  /// Waits for a message that was started and leaves the sum, the same bits on every rank. In any
  /// order, each once. Throws CommError if a rank does not come within the timeout, and whenever
  /// the sum may be wrong.
  virtual void finish(std::size_t started, std::span<double> sum) = 0;

  void all_reduce(std::span<double> message) { finish(start(message), message); }

  /// Collective. The transport of the ranks with the same color, ordered by rank here. `colors`
  /// holds every rank's.
  virtual std::unique_ptr<Transport> split(std::span<const int> colors) = 0;
};

/// What was started and is not finished: a few things in places that are used again and again.
template <class T>
class InFlight {
 public:
  /// A place that is free, whose contents are those of its last use.
  std::size_t take() {
    const auto free = std::ranges::find(busy_, false);
    const auto place = static_cast<std::size_t>(free - busy_.begin());
    if (free == busy_.end()) {
      things_.push_back(std::make_unique<T>());
      busy_.push_back(false);
    }
    busy_[place] = true;
    return place;
  }
  T& operator[](std::size_t place) { return *things_[place]; }
  void release(std::size_t place) { busy_[place] = false; }
  bool any() const { return std::ranges::count(busy_, true) > 0; }

 private:
  std::vector<std::unique_ptr<T>> things_;
  std::vector<bool> busy_;
};

/// `timeout` if it is above 0, at most a year, so that it can be added to any clock. Throws
/// InvalidArgument for others.
std::chrono::milliseconds validated(std::chrono::milliseconds timeout);

/// For messages: "0.5 s".
std::string in_seconds(std::chrono::milliseconds time);

}  // namespace syncbn::comm
