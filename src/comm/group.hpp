// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
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

  /// Collective. Sums `payload` over the ranks, the same bits on each. One message, 8 words longer
  /// than the payload, whose capacity grows by them the first time. On failure throws CommError;
  /// the payload keeps its size, not its values, and the group is unusable.
  void exchange(const Descriptor& what, std::vector<double>& payload);

  /// Collective. See Communicator::split.
  std::shared_ptr<Group> split(int color);

 private:
  void exchange_checked(const Descriptor& what, std::vector<double>& payload);
  void reduce(const Descriptor& what, std::uint64_t print, std::vector<double>& payload);
  [[noreturn]] void throw_disagreement(const Descriptor& what);

  std::unique_ptr<Transport> transport_;
  std::int64_t sequence_ = 0;
  std::int64_t unnamed_layers_ = 0;
  std::unordered_set<std::uint64_t> known_;  ///< fingerprints of (layer, channels, length) in use
  bool failed_ = false;
  std::string failure_;  ///< why
  Counters counters_;
};

}  // namespace syncbn::comm
