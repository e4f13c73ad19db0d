// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "comm/group/descriptor.hpp"

namespace syncbn::comm {

/// Describes one message of a rank to its group. The ranks must agree on every field.
struct Message {
  Descriptor what;
  std::int64_t sequence = 0;      ///< number of the message in its group: 1, 2, ...
  std::size_t length = 0;         ///< number of values
  std::uint64_t fingerprint = 0;  ///< of all of the above
};

/// Returns the message of these fields, with its fingerprint.
Message stamped(const Descriptor& what, std::int64_t sequence, std::size_t length);

class FlightRecord;

/// Sums messages over the ranks of a group.
class Transport {
 public:
  using Ticket = std::size_t;

  virtual ~Transport() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;

  /// Begins to sum `data` over the ranks in place. The data must stay where they are, untouched,
  /// until the ticket is finished; the texts of the descriptor must stay until then, too. All ranks
  /// start their messages in the same order.
  virtual Ticket start(const Message& message, std::span<double> data) = 0;

  /// Makes what progress can be made, and returns whether `finish` would find the sum without
  /// waiting. Throws CommError for a failure that it notices; `finish` notices all.
  virtual bool arrived(Ticket ticket) = 0;

  /// Waits until the ticket's data hold the sum, the same bits on every rank. Each ticket is
  /// finished once, in any order. Throws CommError, before the data are changed, if the ranks'
  /// fingerprints differ (the text is describe_disagreement's); also if a rank does not come by the
  /// deadline, has left or given up; and whenever the sum may be wrong. Nothing can be started or
  /// finished after that.
  virtual void finish(Ticket ticket) = 0;

  /// Tells the ranks that wait for this one that it will not come, where the transport can.
  virtual void give_up(std::string_view why) noexcept = 0;

  /// Records, where the transport can, why this rank has refused a collective call, for the reports
  /// of ranks that wait for it. It may still make the call in another way.
  virtual void refuse(std::string_view) noexcept {}

  /// Returns a record that other ranks can read, in which this rank's messages are to be kept; null
  /// if the transport has none.
  virtual FlightRecord* flight_record() { return nullptr; }

  /// Collective. Returns the transport of the ranks with the same color as this one, in the order
  /// of their ranks here. `colors` holds every rank's color.
  virtual std::unique_ptr<Transport> split(std::span<const int> colors) = 0;
};

}  // namespace syncbn::comm
