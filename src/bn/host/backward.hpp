// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>

#include "syncbn/batch_norm.hpp"

#include "bn/host/exact_sums.hpp"
#include "bn/host/pass.hpp"
#include "bn/layer.hpp"
#include "bn/validate.hpp"

namespace syncbn::bn {

/// These are the arguments of a backward. The layer fills in the context's gamma, beta and
/// activation.
struct BackwardArguments {
  BackwardContext context;
  TensorView dx;
  std::optional<TensorView> dresidual = std::nullopt;
};

CallMemory memory_of(const BackwardArguments& arguments);

/// Throws InvalidArgument unless the arguments belong to `saved`, which a forward or infer of
/// `layer` has filled. Counts the elements of a channel, or adds up its weights, into
/// layer.working.count.
void validate(const BackwardArguments& arguments, Layer& layer, const Saved& saved);

/// Returns whether a backward needs no other rank: the statistics are frozen and the parameters'
/// gradients are this rank's own.
bool is_local(const Layer& layer, const Saved& saved);

/// A BackwardPass computes gradients from the group's sums, or without them if is_local(). The
/// layer, `saved` and what the arguments refer to outlive it.
class BackwardPass final : public Pass {
 public:
  /// The arguments have been validated.
  BackwardPass(Layer& layer, const BackwardArguments& arguments, const Saved& saved);

  void sum(const ChannelRange& channels) override;
  bool is_settled(const ChannelRange& channels) const override;
  void settle(const ChannelRange& channels) override;
  void use(const ChannelRange& channels) override;

  /// Ends a backward whose channels have all been used: adds to the parameters' gradients.
  void end();

 private:
  ExactSums* exact() override { return exact_ ? &*exact_ : nullptr; }
  const BackwardContext& context() const { return arguments_.context; }

  Layer& layer_;
  BackwardArguments arguments_;
  const Saved& saved_;
  std::optional<ExactBackward> exact_;
};

/// Validates the arguments and runs a whole backward. Collective unless is_local().
void backward(Layer& layer, const BackwardArguments& arguments, const Saved& saved);

}  // namespace syncbn::bn
