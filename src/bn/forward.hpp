// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <optional>

#include "syncbn/batch_norm.hpp"

#include "bn/exact_sums.hpp"
#include "bn/layer.hpp"
#include "bn/pass.hpp"
#include "bn/validate.hpp"

namespace syncbn::bn {

/// These are the arguments of a forward or an infer.
struct ForwardArguments {
  ConstTensorView x;
  std::optional<ConstTensorView> residual = std::nullopt;
  TensorView y;
  Weight weight = {};
  bool in_place = false;
};

CallMemory memory_of(const ForwardArguments& arguments);

/// Throws InvalidArgument unless they fit the layer and each other. Counts the elements of a
/// channel, or adds up its weights, into layer.working.count.
void validate(const ForwardArguments& arguments, Layer& layer);

/// A ForwardPass normalizes with the group's statistics. The layer and what the arguments refer to
/// outlive it.
class ForwardPass final : public Pass {
 public:
  /// `operation` is forward or infer. The arguments have been validated.
  ForwardPass(Layer& layer, comm::Pass operation, const ForwardArguments& arguments);

  void sum(const ChannelRange& channels) override;
  bool is_settled(const ChannelRange& channels) const override;
  void settle(const ChannelRange& channels) override;
  void use(const ChannelRange& channels) override;

  /// Collective. Takes all channels, in as many blocks as the ranks wished for in the last forward.
  void take();
  /// Ends a forward whose channels have all been used: updates the running statistics and the next
  /// pivot, and fills `saved`.
  void end_forward(Saved& saved);
  /// Ends an infer likewise: updates the next pivot.
  void end_infer();

 private:
  ExactPass* exact() override { return exact_ ? &*exact_ : nullptr; }
  void choose_next_pivot();

  Layer& layer_;
  ForwardArguments arguments_;
  std::optional<ExactForward> exact_;
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
  bool repeated_ = false;
};

/// Collective. A whole forward.
void forward(Layer& layer, const ForwardArguments& arguments, Saved& saved);

/// A whole infer: local, but collective without track_running_stats.
void infer(Layer& layer, const ForwardArguments& arguments);
/// Local. As above, for a backward to follow. Throws NotConfigured without track_running_stats.
void infer(Layer& layer, const ForwardArguments& arguments, Saved& saved);

}  // namespace syncbn::bn
