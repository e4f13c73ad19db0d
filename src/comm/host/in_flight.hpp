// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <deque>
#include <vector>

namespace syncbn::comm {

/// InFlight keeps what was started and is not finished, in places that are used again. Things stay
/// where they are, also when the container is moved.
template <class T>
class InFlight {
 public:
  /// Takes a free place and returns its number. Its contents are those of its last use.
  std::size_t take() {
    if (free_.empty()) {
      things_.emplace_back();
      return things_.size() - 1;
    }
    const std::size_t place = free_.back();
    free_.pop_back();
    return place;
  }
  T& operator[](std::size_t place) { return things_[place]; }
  void release(std::size_t place) { free_.push_back(place); }
  bool any() const { return free_.size() < things_.size(); }

 private:
  std::deque<T> things_;
  std::vector<std::size_t> free_;  ///< places
};

}  // namespace syncbn::comm
