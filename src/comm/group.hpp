// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "syncbn/communicator.hpp"

#include "comm/descriptor.hpp"
#include "comm/transport.hpp"

namespace syncbn::comm {

/// The ranks of a communicator and the state of their conversation: a transport, the number of
/// exchanges so far, and, once one failed, why.
///
/// Every message carries the fingerprint of its descriptor and sequence number inside the same sum
/// (see fingerprint.hpp), so a disagreement is seen by every rank in the very call. The ranks then
/// exchange their descriptors and throw a CommError that lists them.
///
/// Equal lengths cannot be checked inside the sum that needs them. So the first exchange of a layer
/// is preceded by one of the fingerprint alone, which has the same length everywhere.
class Group {
 public:
  explicit Group(std::unique_ptr<Transport> transport) : transport_(std::move(transport)) {}

  int rank() const { return transport_->rank(); }
  int size() const { return transport_->size(); }
  const Counters& counters() const { return counters_; }

  /// 0, 1, 2, ... from call to call.
  std::int64_t count_unnamed_layer() { return unnamed_layers_++; }

  /// Collective. Begins to sum `payload` over the ranks, in one message, 8 words longer. Several
  /// may be under way, each with a payload of its own, which is not to be touched until `finish`;
  /// the ranks start them in the same order. The payload's capacity grows by the 8 words the first
  /// time.
  void start(const Descriptor& what, std::vector<double>& payload);

  /// Collective. Waits for a payload that was started and leaves the sum there, the same bits on
  /// each rank. In any order.
  ///
  /// On failure both throw CommError; the payload keeps its size, not its values, and the group is
  /// unusable.
  void finish(const Descriptor& what, std::vector<double>& payload);

  /// Both.
  void exchange(const Descriptor& what, std::vector<double>& payload) {
    start(what, payload);
    finish(what, payload);
  }

  /// Makes the group unusable: what was started will not be finished.
  void abandon(std::string_view why);

  /// The least time that an exchange took, waiting included. [s]
  double fastest() const { return fastest_; }

  /// Collective. See Communicator::split.
  std::shared_ptr<Group> split(int color);

 private:
  struct Pending {
    const std::vector<double>* payload;
    std::size_t started;  ///< the transport's number
    std::uint64_t print;  ///< its fingerprint
    std::int64_t sequence;
    double seconds;  ///< that its start took
  };

  /// Runs `body`; if it throws, the group is unusable and a CommError tells why.
  template <class Body>
  void guarded(const Descriptor& what, std::vector<double>& payload, std::size_t length, Body body);
  Pending send(std::uint64_t print, std::vector<double>& payload);
  void receive(const Descriptor& what, const Pending& pending, std::vector<double>& payload);
  [[noreturn]] void throw_disagreement(const Descriptor& what, std::int64_t sequence);

  std::unique_ptr<Transport> transport_;
  std::int64_t sequence_ = 0;
  std::int64_t unnamed_layers_ = 0;
  std::unordered_set<std::uint64_t> known_;  ///< fingerprints of (layer, channels, length) in use
  std::vector<Pending> pending_;             ///< in the order in which they were started
  double fastest_ = std::numeric_limits<double>::infinity();
  bool failed_ = false;
  std::string failure_;  ///< why
  Counters counters_;
};

}  // namespace syncbn::comm
