// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "comm/descriptor.hpp"

namespace syncbn::comm {

/// One message of a rank to its group. The ranks must agree on every field.
struct Message {
  Descriptor what;
  std::int64_t sequence = 0;      ///< 1, 2, ... from message to message of a group
  std::size_t length = 0;         ///< its values
  std::uint64_t fingerprint = 0;  ///< of all of the above
};

/// `fingerprint` filled in.
Message stamped(const Descriptor& what, std::int64_t sequence, std::size_t length);

class FlightRecord;

/// How messages travel between the ranks of a group.
class Transport {
 public:
  using Ticket = std::size_t;

  virtual ~Transport() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;

  /// Begins to sum `data` over the ranks in place. It must stay where it is, untouched, until the
  /// ticket is finished; the descriptor's layer, until then, too. All ranks start their messages in
  /// the same order.
  virtual Ticket start(const Message& message, std::span<double> data) = 0;

  /// Makes what progress can be made, and tells whether `finish` would find the sum without
  /// waiting. May throw what `finish` would; what it does not notice, `finish` does.
  virtual bool arrived(Ticket ticket) = 0;

  /// Waits until the ticket's data hold the sum, the same bits on every rank. In any order, each
  /// ticket once. Throws CommError, before anything is summed, if the ranks' fingerprints differ
  /// (the text is describe_disagreement's); if a rank does not come by the deadline, has left or
  /// given up; and whenever the sum may be wrong. Nothing can be started or finished after that.
  virtual void finish(Ticket ticket) = 0;

  /// Tells the ranks which wait for this one, where the transport can, that it will not come.
  virtual void give_up(std::string_view why) noexcept = 0;

  /// Leaves word, where the transport can, for ranks that will miss this one: why it has refused a
  /// collective call, which it may still make in another way.
  virtual void refuse(std::string_view) noexcept {}

  /// Where to record this rank's messages so that others can read it; null: nowhere in particular.
  virtual FlightRecord* flight_record() { return nullptr; }

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

}  // namespace syncbn::comm
