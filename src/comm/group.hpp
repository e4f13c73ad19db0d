// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "syncbn/communicator.hpp"

#include "comm/descriptor.hpp"
#include "comm/flight_record.hpp"
#include "comm/layer_names.hpp"
#include "comm/ticks.hpp"
#include "comm/transport.hpp"

namespace syncbn::comm {

/// The ranks of a communicator and the state of their conversation: a transport, the number of
/// messages so far, and, once one failed, why.
class Group {
 public:
  /// `number`: of this group alone, the same on all of its ranks, for its flight records; 0: none.
  explicit Group(std::unique_ptr<Transport> transport, std::uint64_t number = 0);

  /// A number that no other process gives out, and this one only once.
  static std::uint64_t new_number();

  int rank() const { return transport_->rank(); }
  int size() const { return transport_->size(); }
  Counters counters() const;

  /// See LayerNames.
  std::int64_t count_layer(std::string_view name) { return layers_.count(name); }

  /// Collective. Begins to sum `data` over the ranks in place. Several may be under way; none is to
  /// be touched until it is finished. The ranks start them in the same order.
  PendingSum start(const Descriptor& what, std::span<double> data);

  /// Whether `finish` would find the sum without waiting. May fail as it would; what it does not
  /// notice, `finish` does.
  bool arrived(const Descriptor& what, PendingSum& started);

  /// Collective. Waits until the data hold the sum, the same bits on each rank. In any order.
  ///
  /// On failure both throw CommError; the data are lost, and the group is unusable.
  void finish(const Descriptor& what, const PendingSum& started);

  /// Both.
  void exchange(const Descriptor& what, std::span<double> data);

  /// Makes the group unusable: what was started will not be finished. Ranks that wait for this one
  /// are told why, where the transport can.
  void abandon(std::string_view why);

  /// A collective call was refused on this rank before it exchanged anything, and the group remains
  /// usable. Ranks that wait for this one in vain are told why, where the transport can.
  void refused(std::string_view why) noexcept;

  /// The least time that an exchange took, waiting included. [s]
  double fastest() const;

  /// See Communicator::flight_record.
  std::string flight_record() const;

  /// Collective. See Communicator::split.
  std::shared_ptr<Group> split(int color);

 private:
  /// Runs `body`; if it throws, the group is unusable and a CommError tells why.
  template <class Body>
  void guarded(const Descriptor& what, Body body);
  void fail(std::string_view why);

  PendingSum begin(const Descriptor& what, std::span<double> data, Ticks now);
  void end(const PendingSum& started, Ticks since);

  std::unique_ptr<Transport> transport_;
  std::uint64_t number_;
  std::unique_ptr<FlightRecord> own_record_;  ///< unless the transport has one
  FlightRecord* record_ = nullptr;            ///< null in a group of one
  std::int64_t sequence_ = 0;
  std::vector<PendingSum> under_way_;
  LayerNames layers_;
  Ticks time_ = 0;     ///< in all exchanges
  Ticks fastest_ = 0;  ///< of them; 0 before the first
  bool failed_ = false;
  std::string failure_;  ///< why
  Counters counters_;    ///< but their seconds
};

}  // namespace syncbn::comm
