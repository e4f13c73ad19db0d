// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>

#include "syncbn/batch_norm.hpp"

#include "bn/exact_sums.hpp"
#include "bn/layer.hpp"
#include "bn/pass.hpp"
#include "bn/validate.hpp"

namespace syncbn::bn {

/// What a forward is given.
struct ForwardArguments {
  ConstTensorView x;
  std::optional<ConstTensorView> residual = std::nullopt;
  TensorView y;
  Weight weight = {};
  bool in_place = false;
};

CallMemory memory_of(const ForwardArguments& arguments);

/// Throws InvalidArgument unless they fit the layer and each other; the weights are not looked at.
void validate(const ForwardArguments& arguments, const Layer& layer);

/// A forward with the group's statistics.
class ForwardPass final : public Pass {
 public:
  /// `operation` is forward or infer. Checks the weights.
  ForwardPass(Layer& layer, comm::Pass operation, const ForwardArguments& arguments);

  void sum(const ChannelRange& channels) override;
  bool is_settled(const ChannelRange& channels) const override;
  void settle(const ChannelRange& channels) override;
  void use(const ChannelRange& channels) override;

  /// Called when all channels have been used: what the layer keeps of a forward, and what its
  /// backward needs.
  void end_forward(Saved& saved);
  /// Likewise of an infer: the next pivot alone.
  void end_infer();

 private:
  Layer& layer_;
  ForwardArguments arguments_;
  std::optional<ExactForward> exact_;
  bool repeated_ = false;
};

/// Collective.
void forward(Layer& layer, const ForwardArguments& arguments, Saved& saved);

/// Local; collective without track_running_stats.
void infer(Layer& layer, const ForwardArguments& arguments);
/// Local. Throws NotConfigured without track_running_stats.
void infer(Layer& layer, const ForwardArguments& arguments, Saved& saved);

}  // namespace syncbn::bn
