// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <optional>

#include "syncbn/batch_norm.hpp"

#include "bn/host/exact_sums.hpp"
#include "bn/host/pass.hpp"
#include "bn/layer.hpp"
#include "bn/validate.hpp"

namespace syncbn::bn {

/// These are the arguments of a forward or an infer.
struct ForwardArguments {
  ConstTensorView x;
  std::optional<ConstTensorView> residual = std::nullopt;
  TensorView y;
  PositionWeights position_weights = {};
  bool in_place = false;
};

CallMemory memory_of(const ForwardArguments& arguments);

/// Throws InvalidArgument unless the arguments fit the layer and each other. Counts the elements of
/// a channel, or adds up its weights, into layer.working.count.
void validate(const ForwardArguments& arguments, Layer& layer);

/// A ForwardPass normalizes with the group's statistics. The layer and what the arguments refer to
/// outlive it.
class ForwardPass final : public Pass {
 public:
  /// `operation` is forward or infer. The arguments have been validated.
  ForwardPass(Layer& layer, comm::Operation operation, const ForwardArguments& arguments);

  void sum(const ChannelRange& channels) override;
  bool is_settled(const ChannelRange& channels) const override;
  void settle(const ChannelRange& channels) override;
  void use(const ChannelRange& channels) override;

  /// Collective. Takes all channels, in options.channel_blocks blocks, or if that is 0 in as many
  /// as the ranks voted for in earlier forwards.
  void take();
  /// Ends a forward whose channels have all been used: updates the running statistics and the next
  /// pivot, and fills `saved`.
  void end_forward(Saved& saved);
  /// Ends an infer whose channels have all been used: updates the next pivot.
  void end_infer();

 private:
  ExactSums* exact() override { return exact_ ? &*exact_ : nullptr; }
  void move_to_batch();

  Layer& layer_;
  ForwardArguments arguments_;
  std::optional<ExactForward> exact_;
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
  bool repeated_ = false;
};

/// Collective. Validates the arguments, runs a whole forward, and fills `saved`.
void forward(Layer& layer, const ForwardArguments& arguments, Saved& saved);

/// Validates the arguments and runs a whole infer. Local with track_running_stats, else collective.
void infer(Layer& layer, const ForwardArguments& arguments);
/// Local. Runs an infer that a backward may follow, and fills `saved`. Throws NotConfigured without
/// track_running_stats.
void infer(Layer& layer, const ForwardArguments& arguments, Saved& saved);

}  // namespace syncbn::bn
