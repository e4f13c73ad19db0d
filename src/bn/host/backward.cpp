// SPDX-License-Identifier: Apache-2.0
//
// clang-format off
// backward  sums      a = sum(dz), b = sum(dz * (x - mean)), dz = dy through the activation
//                                                                one read of x, dy
//           exchange  (a, b, n) summed over the group            one all-reduce of 2C + 2 doubles
//           gradient  dx = gamma * invstd * (dz - a / n - (x - mean) * invstd^2 * b / n)
//                                                                one read of x, dy, one write of dx
//           dgamma += b * invstd, dbeta += a, with a and b of this rank or of the group
// clang-format on
//
// Each block of channels goes through these steps by itself (in_blocks.hpp). With a residual, y
// tells the side of the activation that a value was on, and both reads are of y too. After an
// infer, whose statistics are no function of x, a and b are gradients of the parameters only:
// dx = gamma * invstd * dz.

#include "bn/host/backward.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "syncbn/error.hpp"

#include "core/default_arithmetic.hpp"

#include "bn/host/in_blocks.hpp"
#include "bn/host/phases.hpp"
#include "channels/finalize.hpp"
#include "channels/for_each.hpp"
#include "comm/group/group.hpp"

namespace syncbn::bn {
namespace {

/// Returns what the ranks must agree on.
comm::Descriptor descriptor_of(const Layer& layer, const BackwardArguments& arguments,
                               const Saved& saved) {
  return {.operation = comm::Operation::backward,
          .layer = layer.identity.label,
          .channels = layer.channels,
          .dtype = arguments.context.x.dtype(),
          .shared = static_cast<std::uint64_t>(saved.forward),
          .options = layer.options_text,
          .given = given_in(saved)};
}

}  // namespace

CallMemory memory_of(const BackwardArguments& arguments) {
  return memory_of_backward(arguments.context, arguments.dx, arguments.dresidual);
}

void validate(const BackwardArguments& arguments, Layer& layer, const Saved& saved) {
  require_backward_of(saved, arguments.context, arguments.dx, arguments.dresidual, layer.channels,
                      layer.identity);
  layer.working.count = count_of(arguments.context.x, arguments.context.position_weights);
}

bool is_local(const Layer& layer, const Saved& saved) {
  return saved.frozen && layer.options.parameter_gradients == GradientScope::local;
}

BackwardPass::BackwardPass(Layer& layer, const BackwardArguments& arguments, const Saved& saved)
    : Pass(layer.group(), descriptor_of(layer, arguments, saved), layer.working),
      layer_(layer),
      arguments_(arguments),
      saved_(saved) {
  arguments_.context.affine = layer.affine();
  arguments_.context.activation = layer.options.activation;
  working().own_sums.resize(sums_length(layer.channels));
  if (layer.is_exact() && !is_local(layer, saved)) {
    exact_.emplace(group(), what(), working(), layer.options.backend, context());
  }
}

void BackwardPass::sum(const ChannelRange& channels) {
  if (exact_) {
    exact_->sum(channels);
    return;
  }
  std::vector<double>& sums = working().sums;
  backward_sums(context(), channels, sums, layer_.options.backend, working());
  for (const std::int64_t first : {channels.begin, layer_.channels + channels.begin}) {
    std::copy_n(sums.begin() + first, channels.size(), working().own_sums.begin() + first);
  }
}

bool BackwardPass::is_settled(const ChannelRange& channels) const {
  return !exact_ || exact_->is_settled(channels);
}

void BackwardPass::settle(const ChannelRange& channels) {
  exact_->settle(channels);
}

void BackwardPass::use(const ChannelRange& channels) {
  input_gradient(context(), channels, working().sums, saved_.frozen, arguments_.dx,
                 arguments_.dresidual, layer_.options.backend, working());
}

void BackwardPass::end() {
  const std::vector<double>& share = layer_.options.parameter_gradients == GradientScope::local
                                         ? working().own_sums
                                         : working().sums;
  if (!layer_.options.affine) {
    return;
  }
  channels::take_channels(
      channels::AddParameterGradients{layer_.channels, share.data(),
                                      saved_.statistics.invstd.data(), layer_.weight_grad.data(),
                                      layer_.bias_grad.data()},
      all_channels());
}

void backward(Layer& layer, const BackwardArguments& arguments, const Saved& saved) try {
  const DefaultArithmetic arithmetic;
  validate(arguments, layer, saved);
  BackwardPass pass(layer, arguments, saved);
  if (is_local(layer, saved)) {
    in_blocks_here(pass, saved.blocks);
  } else {
    in_blocks(pass, saved.blocks, 0);
  }
  pass.end();
} catch (const InvalidArgument& error) {
  if (!is_local(layer, saved)) {
    layer.group().refused(error.what());
  }
  throw;
}

}  // namespace syncbn::bn
