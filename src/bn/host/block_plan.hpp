// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "syncbn/backend.hpp"
#include "syncbn/tensor_view.hpp"

#include "channels/channel_range.hpp"
#include "comm/group/group.hpp"

namespace syncbn::bn {

/// Returns the k-th of `blocks` blocks of `channels` channels.
channels::ChannelRange block(std::int64_t channels, std::int64_t blocks, std::int64_t k);

/// A BlockPlan decides into how many blocks of channels a layer's passes are cut, so that what the
/// sums have read of a tensor and its gradient is still in the cache when the second pass comes.
///
/// All ranks must cut alike, but each knows its own tensor, cache and speed only. So each sends, in
/// the message of every forward, its vote on the next forward's blocks, and all take the mean. A
/// rank votes for what fits its cache, or for a single block if so many exchanges would take more
/// than a twentieth of its last forward. Where the options give a number, that is what they take.
class BlockPlan {
 public:
  /// `chosen` is BatchNormOptions::channel_blocks, 0 for a number that the ranks vote for.
  BlockPlan(std::int64_t channels, std::int64_t chosen, Backend backend)
      : channels_(channels), chosen_(chosen), backend_(backend) {}

  struct Forward {
    std::int64_t blocks;  ///< of this forward, the same on all ranks
    double vote;          ///< this rank's, on the next
  };
  /// Begins a forward of x.
  Forward begin(const ConstTensorView& x, const comm::Group& group) const;
  /// Ends it: takes the mean of the ranks' votes, and how long the forward took.
  void end(double mean_vote, double seconds);

  /// Returns how many blocks the passes take that follow, until the next forward ends.
  std::int64_t blocks() const { return blocks_; }

 private:
  /// Returns how many blocks suit this rank. 1 is not to cut at all.
  std::int64_t wanted(const ConstTensorView& x) const;

  std::int64_t channels_;
  std::int64_t chosen_;
  Backend backend_;
  std::int64_t blocks_ = 1;
  double forward_seconds_ = 0;  ///< duration of the last forward, exchange included
};

}  // namespace syncbn::bn
