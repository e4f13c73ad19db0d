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

#include "core/internal_api.hpp"

#include "comm/group/descriptor.hpp"
#include "comm/group/flight_record.hpp"
#include "comm/group/subject_counts.hpp"
#include "comm/group/ticks.hpp"
#include "comm/group/transport.hpp"

namespace syncbn::comm {

/// Holds what a rank knows of its communicator: the transport, how many messages there were, which
/// are under way and, once one has failed, why. In a group of one rank nothing is exchanged.
class Group {
 public:
  /// `number` tells this group from others in flight records. It is the same on all of its ranks; 0
  /// for none.
  SYNCBN_INTERNAL_API explicit Group(std::unique_ptr<Transport> transport,
                                     std::uint64_t number = 0);

  /// Returns a number for a new group, which no process gives out twice: a hash of host, process,
  /// time and a counter.
  SYNCBN_INTERNAL_API static std::uint64_t new_number();

  int rank() const { return transport_->rank(); }
  int size() const { return transport_->size(); }
  Counters counters() const;

  /// Returns how many subjects of this name were counted before: see SubjectCounts.
  std::int64_t count_subject(std::string_view name) { return subjects_.count(name); }

  /// Collective. Begins to sum `data` over the ranks in place. The data are not to be touched until
  /// the sum is finished. Several sums may be under way; all ranks start them in the same order.
  PendingSum start(const Descriptor& what, std::span<double> data);

  /// Makes what progress can be made, and returns whether `finish` would find the sum without
  /// waiting. Throws CommError for a failure that it notices; `finish` notices all.
  bool arrived(const Descriptor& what, PendingSum& started);

  /// Collective. Waits until the data hold the sum, the same bits on each rank. Sums are finished
  /// in any order. Throws InvalidArgument for one that is not under way.
  ///
  /// If `start`, `arrived` or `finish` fails otherwise, it throws CommError; the data are lost, and
  /// the group is unusable.
  void finish(const Descriptor& what, const PendingSum& started);

  /// Collective. Starts a sum and finishes it.
  void exchange(const Descriptor& what, std::span<double> data);

  /// Makes the group unusable: what was started will not be finished. Ranks that wait for this one
  /// are told why, where the transport can tell them.
  void abandon(std::string_view why);

  /// Records that this rank refused a collective call before anything was exchanged. The group
  /// remains usable; ranks that wait for this one in vain are told why, where the transport can.
  void refused(std::string_view why) noexcept;

  /// Returns the least time that an exchange took, waiting included; infinity before the first. [s]
  double fastest() const;

  /// Returns this rank's flight record as JSON: see Communicator::flight_record.
  std::string flight_record() const;

  /// Collective. Returns the sub-group of the ranks with this color: see Communicator::split.
  std::shared_ptr<Group> split(int color);

 private:
  /// Runs `body`. If that throws, makes the group unusable and throws CommError, which tells why.
  template <class Body>
  void guarded(const Descriptor& what, Body body);
  void fail(std::string_view why);

  PendingSum begin(const Descriptor& what, std::span<double> data, Ticks now);
  void end(const PendingSum& started, Ticks since);

  std::unique_ptr<Transport> transport_;
  std::uint64_t number_;
  std::unique_ptr<FlightRecord> own_record_;  ///< null if the transport has one
  FlightRecord* record_ = nullptr;            ///< either of them; null in a group of one
  std::int64_t sequence_ = 0;
  std::vector<PendingSum> under_way_;
  SubjectCounts subjects_;
  Ticks time_ = 0;     ///< spent in all exchanges
  Ticks fastest_ = 0;  ///< least time of an exchange; 0 before the first
  bool failed_ = false;
  std::string failure_;  ///< why it failed
  Counters counters_;    ///< `seconds` is not kept here but in time_
};

}  // namespace syncbn::comm
