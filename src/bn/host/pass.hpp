// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "bn/host/exact_sums.hpp"
#include "bn/host/workspace.hpp"
#include "comm/group/descriptor.hpp"
#include "comm/group/group.hpp"

namespace syncbn::bn {

/// A Pass is one layer's forward or backward in progress, cut where its message travels.
///
/// Its caller is in_blocks.hpp for one layer, together.cpp for several. For each range of channels
/// that calls sum, pack, (all ranks' messages are added up), unpack, settle if need be, and use. In
/// a group of one rank, keep takes the place of pack and unpack.
class Pass {
 public:
  virtual ~Pass() = default;
  Pass(const Pass&) = delete;
  Pass& operator=(const Pass&) = delete;

  comm::Group& group() const { return group_; }
  /// Returns what the ranks must agree on.
  const comm::Descriptor& what() const { return what_; }
  Workspace& working() const { return working_; }
  ChannelRange all_channels() const { return {0, what_.count}; }

  /// Takes this rank's sums.
  virtual void sum(const ChannelRange& channels) = 0;
  /// Writes the message. `vote` is this rank's, on how many blocks the next forward takes.
  void pack(const ChannelRange& channels, double vote, std::vector<double>& message);
  /// Takes the group's sums. Returns the sum of the votes.
  double unpack(const ChannelRange& channels, const std::vector<double>& message);
  /// Takes this rank's sums as the group's.
  void keep(const ChannelRange& channels);
  /// Returns whether the group's sums are good enough to be used ("settled"), the same on every
  /// rank.
  virtual bool is_settled(const ChannelRange& channels) const = 0;
  /// Collective. Takes the sums again where they are not settled, a limited number of times.
  virtual void settle(const ChannelRange& channels) = 0;
  /// Does what needs the group's sums.
  virtual void use(const ChannelRange& channels) = 0;

  /// Collective where the sums are not settled.
  void settle_and_use(const ChannelRange& channels) {
    if (!is_settled(channels)) {
      settle(channels);
    }
    use(channels);
  }

 protected:
  Pass(comm::Group& group, const comm::Descriptor& what, Workspace& working)
      : group_(group), what_(what), working_(working) {}

 private:
  /// Returns what takes the sums and handles their message, if sums are exact; else null.
  virtual ExactSums* exact() = 0;

  comm::Group& group_;
  comm::Descriptor what_;
  Workspace& working_;
};

}  // namespace syncbn::bn
