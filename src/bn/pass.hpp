// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "bn/exact_pass.hpp"
#include "bn/workspace.hpp"
#include "comm/descriptor.hpp"
#include "comm/group.hpp"

namespace syncbn::bn {

/// A forward or a backward of one layer in progress, cut where its message travels.
///
/// For each range of channels: sum, pack, (all ranks' messages are added up), unpack, settle if
/// need be, use. In a group of one rank: sum, keep, and so on. Who calls these, and for which
/// channels, is in_blocks.hpp for one layer and together.hpp for several.
class Pass {
 public:
  virtual ~Pass() = default;
  Pass(const Pass&) = delete;
  Pass& operator=(const Pass&) = delete;

  comm::Group& group() const { return group_; }
  const comm::Descriptor& what() const { return what_; }
  Workspace& working() const { return working_; }

  /// Takes this rank's sums.
  virtual void sum(const ChannelRange& channels) = 0;
  /// Writes the message. `wish` is a number of the rank's that goes with it.
  void pack(const ChannelRange& channels, double wish, std::vector<double>& message) const;
  /// Takes the group's sums. Returns the sum of the wishes.
  double unpack(const ChannelRange& channels, const std::vector<double>& message);
  /// Takes this rank's sums as the group's.
  void keep(const ChannelRange& channels);
  /// Whether the group's sums are good enough to be used. The same on every rank.
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

  /// The sums are those of `exact`, which says what their message is.
  void set_exact(ExactPass& exact) { exact_ = &exact; }

 private:
  comm::Group& group_;
  comm::Descriptor what_;
  Workspace& working_;
  ExactPass* exact_ = nullptr;
};

}  // namespace syncbn::bn
