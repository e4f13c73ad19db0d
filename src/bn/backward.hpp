// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>

#include "syncbn/batch_norm.hpp"

#include "bn/exact_sums.hpp"
#include "bn/layer.hpp"
#include "bn/pass.hpp"
#include "bn/validate.hpp"

namespace syncbn::bn {

/// What a backward is given. Of the context, gamma, beta and the activation come from the layer.
struct BackwardArguments {
  BackwardContext context;
  TensorView dx;
  std::optional<TensorView> dresidual = std::nullopt;
};

CallMemory memory_of(const BackwardArguments& arguments);

/// Throws InvalidArgument unless they belong to `saved`, a forward of the layer; the weights are
/// not looked at.
void validate(const BackwardArguments& arguments, const Layer& layer, const Saved& saved);

/// Whether nothing of the backward needs the other ranks.
bool is_local(const Layer& layer, const Saved& saved);

class BackwardPass final : public Pass {
 public:
  /// Checks the weights.
  BackwardPass(Layer& layer, const BackwardArguments& arguments, const Saved& saved);

  void sum(const ChannelRange& channels) override;
  bool is_settled(const ChannelRange& channels) const override;
  void settle(const ChannelRange& channels) override;
  void use(const ChannelRange& channels) override;

  /// Called when all channels have been used: adds to the parameters' gradients.
  void end();

 private:
  const BackwardContext& context() const { return arguments_.context; }

  Layer& layer_;
  BackwardArguments arguments_;
  const Saved& saved_;
  std::optional<ExactBackward> exact_;
};

/// Collective, unless it is local.
void backward(Layer& layer, const BackwardArguments& arguments, const Saved& saved);

}  // namespace syncbn::bn
