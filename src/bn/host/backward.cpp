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

#include "bn/host/phases.hpp"
#include "bn/operations.hpp"
#include "channels/finalize.hpp"
#include "channels/for_each.hpp"
#include "comm/group/group.hpp"

namespace syncbn::bn {
namespace {

/// Returns what the ranks must agree on.
comm::Descriptor descriptor_of(const Layer& layer, const BackwardArguments& arguments,
                               const ForwardNote& note) {
  return {.operation = &backward_operation(note.given()),
          .subject = layer.identity.label,
          .count = layer.channels,
          .dtype = arguments.x.dtype(),
          .options = layer.options_text,
          .facts = PassFacts{.forward = note.counted_forward()}};
}

}  // namespace

BackwardPass::BackwardPass(HostLayer& host, const BackwardArguments& arguments,
                           const ForwardRecord::Impl& record)
    : Pass(host.group(), descriptor_of(host.layer, arguments, record.note), host.working),
      host_(host),
      arguments_(arguments),
      record_(record),
      upstream_(
          upstream_of(arguments, coefficients_of(record.arrays), host.layer.options.activation)) {
  working().own_sums.resize(sums_length(host.layer.channels));
  if (host.layer.is_exact() && !host.layer.backward_is_local(record.note.frozen)) {
    exact_.emplace(group(), what(), working(), host.layer.options.backend, upstream_,
                   record.arrays.invstd);
  }
}

void BackwardPass::sum(const ChannelRange& channels) {
  if (exact_) {
    exact_->sum(channels);
    return;
  }
  const std::int64_t all = host_.layer.channels;
  std::vector<double>& sums = working().sums;
  backward_sums({.upstream = upstream_, .sums = sums.data()}, channels, record_.arrays.invstd,
                host_.layer.options.backend, working().scratch);
  for (const std::int64_t first : {channels.begin, all + channels.begin}) {
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
  const std::int64_t all = host_.layer.channels;
  working().mean_dz.resize(static_cast<std::size_t>(all));
  working().grad_slope.resize(static_cast<std::size_t>(all));
  channels::take_channels(
      channels::SetGradientCoefficients{all, working().sums.data(), record_.arrays.invstd,
                                        record_.note.frozen, working().mean_dz.data(),
                                        working().grad_slope.data()},
      channels);
  input_gradient({.upstream = upstream_,
                  .mean_dz = working().mean_dz.data(),
                  .grad_slope = working().grad_slope.data(),
                  .dx = arguments_.dx.data(),
                  .dresidual = arguments_.dresidual ? arguments_.dresidual->data() : nullptr},
                 channels, record_.arrays.invstd, host_.layer.options.backend, working().scratch);
}

void BackwardPass::end() {
  const Layer& layer = host_.layer;
  if (!layer.options.affine) {
    return;
  }
  const std::vector<double>& share = layer.options.parameter_gradients == GradientScope::local
                                         ? working().own_sums
                                         : working().sums;
  channels::with_fastest(
      layer.state.weight_grad, layer.state.bias_grad,
      [&]<class Values>(const Values& dgamma, const Values& dbeta) {
        channels::take_channels(
            channels::AddParameterGradients<Values>{layer.channels, share.data(),
                                                    record_.arrays.invstd, dgamma, dbeta},
            all_channels());
      });
}

}  // namespace syncbn::bn
