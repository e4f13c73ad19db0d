// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <optional>

#include "syncbn/batch_norm.hpp"

#include "bn/arguments.hpp"
#include "bn/host/exact_sums.hpp"
#include "bn/host/layer.hpp"
#include "bn/host/pass.hpp"
#include "bn/record.hpp"

namespace syncbn::bn {

/// A ForwardPass normalizes with the group's statistics. The layer and what the arguments refer to
/// outlive it.
class ForwardPass final : public Pass {
 public:
  /// `operation` is forward or infer. The arguments have been validated.
  ForwardPass(HostLayer& host, const comm::Operation& operation, const ForwardArguments& arguments);

  void sum(const ChannelRange& channels) override;
  bool is_settled(const ChannelRange& channels) const override;
  void settle(const ChannelRange& channels) override;
  void use(const ChannelRange& channels) override;

  /// Collective. Takes all channels, in options.channel_blocks blocks, or if that is 0 in as many
  /// as the ranks voted for in earlier forwards.
  void take();
  /// Ends a forward whose channels have all been used: updates the running statistics and the next
  /// pivot, and fills the record, in which room has been made.
  void end_forward(ForwardRecord::Impl& record);
  /// Ends an infer whose channels have all been used: updates the next pivot.
  void end_infer();

 private:
  ExactSums* exact() override { return exact_ ? &*exact_ : nullptr; }
  void move_to_batch();

  HostLayer& host_;
  ForwardArguments arguments_;
  std::optional<ExactForward> exact_;
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
  bool repeated_ = false;
};

/// Writes these channels of y, with the statistics in `host.working`.
void normalize_channels(HostLayer& host, const ForwardArguments& arguments,
                        const ChannelRange& channels);

/// Copies the statistics in `host.working` to the record, in which room has been made.
void keep_statistics(const HostLayer& host, ForwardRecord::Impl& record);

}  // namespace syncbn::bn
