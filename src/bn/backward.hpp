// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>

#include "syncbn/batch_norm.hpp"

#include "bn/exact_sums.hpp"
#include "bn/layer.hpp"
#include "bn/pass.hpp"
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

/// Throws InvalidArgument unless they belong to `saved`, a forward of the layer. Counts elements
/// as a forward's.
void validate(const BackwardArguments& arguments, Layer& layer, const Saved& saved);

/// Whether a backward needs no other rank.
bool is_local(const Layer& layer, const Saved& saved);

/// A BackwardPass computes gradients with the group's sums, or with none where it is local. The
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
  ExactPass* exact() override { return exact_ ? &*exact_ : nullptr; }
  const BackwardContext& context() const { return arguments_.context; }

  Layer& layer_;
  BackwardArguments arguments_;
  const Saved& saved_;
  std::optional<ExactBackward> exact_;
};

/// Collective, unless it is local. A whole backward.
void backward(Layer& layer, const BackwardArguments& arguments, const Saved& saved);

}  // namespace syncbn::bn
