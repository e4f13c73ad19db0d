// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>

#include "syncbn/batch_norm.hpp"

#include "bn/arguments.hpp"
#include "bn/host/exact_sums.hpp"
#include "bn/host/layer.hpp"
#include "bn/host/pass.hpp"
#include "bn/record.hpp"
#include "kernels/kernels.hpp"

namespace syncbn::bn {

/// A BackwardPass computes gradients from the group's sums, or without them if the layer's
/// backward_is_local. The layer, the record and what the arguments refer to outlive it.
class BackwardPass final : public Pass {
 public:
  /// The arguments have been validated.
  BackwardPass(HostLayer& host, const BackwardArguments& arguments,
               const ForwardRecord::Impl& record);

  void sum(const ChannelRange& channels) override;
  bool is_settled(const ChannelRange& channels) const override;
  void settle(const ChannelRange& channels) override;
  void use(const ChannelRange& channels) override;

  /// Ends a backward whose channels have all been used: adds to the parameters' gradients.
  void end();

 private:
  ExactSums* exact() override { return exact_ ? &*exact_ : nullptr; }

  HostLayer& host_;
  BackwardArguments arguments_;
  const ForwardRecord::Impl& record_;
  kernels::Upstream upstream_;
  std::optional<ExactBackward> exact_;
};

}  // namespace syncbn::bn
