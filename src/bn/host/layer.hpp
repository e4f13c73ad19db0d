// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "syncbn/communicator.hpp"

#include "bn/host/batch_state.hpp"
#include "bn/host/block_plan.hpp"
#include "bn/host/workspace.hpp"
#include "bn/layer.hpp"
#include "comm/group/access.hpp"

namespace syncbn::bn {

/// A HostLayer is a layer on the CPU, with the group that its passes sum over.
struct HostLayer {
  /// The layer's arrays are there before the first pass.
  HostLayer(Layer& common, Communicator members);

  comm::Group& group() const { return comm::Access::group(communicator); }

  /// Begins a forward of `dtype`: sets the pivot to the mean that the running statistics predict,
  /// unless it is known from an earlier batch.
  void prepare_pivot(DType dtype);
  /// Ends a forward, whose statistics are in `working`: moves the running statistics, and chooses
  /// the next forward's pivot.
  void move_to_batch(DType dtype);
  /// Takes the running statistics for those of a batch.
  void take_running_statistics(const channels::StatisticsArrays& out) const;

  /// Returns a fingerprint of the arrays that decide how the next sums are taken: the ranks compare
  /// it.
  std::uint64_t shared_state() const;
  /// Returns a fingerprint of gamma and beta, of those channels whose turn it is; 0 if they may
  /// differ.
  std::uint64_t compared_parameters() const;

  std::span<double> pivot() const {
    return {layer.state.pivot, static_cast<std::size_t>(layer.channels)};
  }

  Layer& layer;
  Communicator communicator;
  Workspace working;  ///< memory of passes, and what one leaves for the next
  BlockPlan plan;
  std::int64_t pivot_retries = 0;

 private:
  BatchArrays batch_arrays() const;
};

}  // namespace syncbn::bn
