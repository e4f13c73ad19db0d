// SPDX-License-Identifier: Apache-2.0
//
// clang-format off
// forward   sums       n, s = sum(x - K), q = sum((x - K)^2)      one read of x
//           exchange   (s, q, n) summed over the group            one all-reduce of 2C + 2 doubles
//           finalize   mean, var, invstd; running statistics      O(C)
//           normalize  y                                          one read of x, one write of y
// clang-format on
//
// Each block of channels goes through these by itself (see in_blocks.hpp).
//
// K is the expected mean: the running mean, corrected for its start (next_pivot in
// channels/pivot.hpp), or the last batch's mean where that is far from it or none is tracked.
// If the reduced sums show that K was too far from the mean, the first two steps are repeated about
// the mean they gave (repeated_sums.hpp). Every rank decides that alike, from the reduced values.

#include "bn/host/forward.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "bn/host/in_blocks.hpp"
#include "bn/host/phases.hpp"
#include "bn/host/repeated_sums.hpp"
#include "bn/operations.hpp"
#include "comm/group/group.hpp"

namespace syncbn::bn {
namespace {

/// Prepares the layer for a pass, and returns what the ranks must agree on.
comm::Descriptor begin_forward(HostLayer& host, const comm::Operation& operation,
                               const ForwardArguments& arguments) {
  host.prepare_pivot(arguments.x.dtype());
  return {.operation = &operation,
          .subject = host.layer.identity.label,
          .count = host.layer.channels,
          .dtype = arguments.x.dtype(),
          .options = host.layer.options_text,
          .facts = PassFacts{.forward = host.layer.forwards,
                             .parameters = host.compared_parameters(),
                             .statistics = host.shared_state()}};
}

}  // namespace

ForwardPass::ForwardPass(HostLayer& host, const comm::Operation& operation,
                         const ForwardArguments& arguments)
    : Pass(host.group(), begin_forward(host, operation, arguments), host.working),
      host_(host),
      arguments_(arguments) {
  const BatchNormOptions& options = host.layer.options;
  if (host.layer.is_exact()) {
    exact_.emplace(group(), what(), working(), options.backend, arguments_.x,
                   arguments_.position_weights, host.pivot(), options.eps);
  }
}

void ForwardPass::sum(const ChannelRange& channels) {
  if (exact_) {
    exact_->sum(channels);
  } else {
    forward_sums(arguments_.x, channels, arguments_.position_weights, host_.pivot(), working().sums,
                 host_.layer.options.backend, working().scratch);
  }
}

bool ForwardPass::is_settled(const ChannelRange& channels) const {
  return exact_ ? exact_->is_settled(channels)
                : !must_repeat_sums(arguments_.x.dtype(), channels, host_.pivot(),
                                    host_.layer.options.eps, working());
}

void ForwardPass::settle(const ChannelRange& channels) {
  if (exact_) {
    exact_->settle(channels);
  } else {
    repeat_sums(group(), what(), arguments_.x, arguments_.position_weights, channels, host_.pivot(),
                host_.layer.options.eps, host_.layer.options.backend, working());
  }
  repeated_ = true;
}

void ForwardPass::use(const ChannelRange& channels) {
  const StateArrays& state = host_.layer.state;
  finalize(channels, working().sums, state.pivot, host_.layer.options.eps, working().statistics);
  set_affine(channels, state.weight, state.bias, working().statistics);
  normalize_channels(host_, arguments_, channels);
}

void ForwardPass::take() {
  BlockPlan& plan = host_.plan;
  const auto [blocks, vote] = plan.begin(arguments_.x, group());
  const double mean_vote = in_blocks(*this, blocks, vote);
  plan.end(mean_vote,
           std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count());
}

void ForwardPass::end_forward(ForwardRecord::Impl& record) {
  move_to_batch();
  keep_statistics(host_, record);
  record.note_forward(host_.layer, arguments_, host_.plan.blocks());
}

void ForwardPass::end_infer() {
  move_to_batch();
}

void ForwardPass::move_to_batch() {
  host_.move_to_batch(arguments_.x.dtype());
  host_.pivot_retries += repeated_ ? 1 : 0;
}

void normalize_channels(HostLayer& host, const ForwardArguments& arguments,
                        const ChannelRange& channels) {
  const channels::StatisticsArrays& statistics = host.working.statistics;
  normalize({.x = arguments.x,
             .weight = data_or_null(arguments.position_weights),
             .mean = statistics.mean,
             .scale = statistics.scale,
             .shift = statistics.shift,
             .residual = arguments.residual ? arguments.residual->data() : nullptr,
             .negative_slope = host.layer.options.activation.negative_slope,
             .y = arguments.y.data()},
            channels, statistics.invstd, host.layer.options.backend, host.working.scratch);
}

void keep_statistics(const HostLayer& host, ForwardRecord::Impl& record) {
  record.lay_out(host.layer);
  std::ranges::copy(host.working.statistics_memory, record.memory.data);
}

}  // namespace syncbn::bn
