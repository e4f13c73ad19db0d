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

#include "syncbn/error.hpp"

#include "core/default_arithmetic.hpp"

#include "bn/host/in_blocks.hpp"
#include "bn/host/phases.hpp"
#include "bn/host/repeated_sums.hpp"
#include "comm/group/group.hpp"

namespace syncbn::bn {
namespace {

comm::Given given_in(const ForwardArguments& arguments) {
  return arguments.in_place   ? comm::Given::in_place
         : arguments.residual ? comm::Given::residual
                              : comm::Given::x;
}

/// Prepares the layer for a pass, and returns what the ranks must agree on.
comm::Descriptor begin_forward(Layer& layer, comm::Operation operation,
                               const ForwardArguments& arguments) {
  layer.prepare_pivot(arguments.x.dtype());
  return {.operation = operation,
          .layer = layer.identity.label,
          .channels = layer.channels,
          .dtype = arguments.x.dtype(),
          .shared = layer.shared_state(),
          .options = layer.options_text,
          .parameters = layer.compared_parameters(),
          .given = given_in(arguments)};
}

void normalize(Layer& layer, const ForwardArguments& arguments, const ChannelRange& channels) {
  normalize(arguments.x, channels, layer.working.statistics, layer.affine(),
            layer.options.activation, arguments.residual, arguments.y, arguments.position_weights,
            layer.options.backend, layer.working);
}

void save(const Layer& layer, const ForwardArguments& arguments, Saved& saved) {
  saved.statistics = layer.working.statistics;
  saved.shape = arguments.x.shape();
  saved.dtype = arguments.x.dtype();
  saved.layout = arguments.x.layout();
  saved.had_residual = arguments.residual.has_value();
  saved.had_weight = !arguments.position_weights.empty();
  saved.in_place = arguments.in_place;
  saved.frozen = false;
  saved.layer = layer.options.name;
  saved.layer_number = layer.identity.number;
}

/// Returns `blocks` if so many exchanges take at most a twentieth of the last forward's time, or if
/// there is nobody to exchange with; else 1.
double worthwhile(std::int64_t blocks, const comm::Group& group, double pass_seconds) {
  const bool cheap = static_cast<double>(blocks) * group.fastest() <= 0.05 * pass_seconds;
  return group.size() == 1 || cheap ? static_cast<double>(blocks) : 1;
}

}  // namespace

CallMemory memory_of(const ForwardArguments& arguments) {
  return memory_of_forward(arguments.x, arguments.residual, arguments.y,
                           arguments.position_weights);
}

void validate(const ForwardArguments& arguments, Layer& layer) {
  require_channels(arguments.x, layer.channels, layer.options.name);
  require_like_x(arguments.x, arguments.y, "y");
  if (arguments.residual) {
    require_like_x(arguments.x, *arguments.residual, "residual");
  }
  require_sound(memory_of(arguments));
  layer.working.count = count_of(arguments.x, arguments.position_weights);
}

ForwardPass::ForwardPass(Layer& layer, comm::Operation operation, const ForwardArguments& arguments)
    : Pass(layer.group(), begin_forward(layer, operation, arguments), layer.working),
      layer_(layer),
      arguments_(arguments) {
  if (layer.is_exact()) {
    exact_.emplace(group(), what(), working(), layer.options.backend, arguments_.x,
                   arguments_.position_weights, layer.pivot, layer.options.eps);
  }
}

void ForwardPass::sum(const ChannelRange& channels) {
  if (exact_) {
    exact_->sum(channels);
  } else {
    forward_sums(arguments_.x, channels, arguments_.position_weights, layer_.pivot, working().sums,
                 layer_.options.backend, working());
  }
}

bool ForwardPass::is_settled(const ChannelRange& channels) const {
  return exact_ ? exact_->is_settled(channels)
                : !must_repeat_sums(arguments_.x.dtype(), channels, layer_.pivot,
                                    layer_.options.eps, working());
}

void ForwardPass::settle(const ChannelRange& channels) {
  if (exact_) {
    exact_->settle(channels);
  } else {
    repeat_sums(group(), what(), arguments_.x, arguments_.position_weights, channels, layer_.pivot,
                layer_.options.eps, layer_.options.backend, working());
  }
  repeated_ = true;
}

void ForwardPass::use(const ChannelRange& channels) {
  finalize(channels, working().sums, layer_.pivot, layer_.options.eps, working().statistics);
  normalize(layer_, arguments_, channels);
}

void ForwardPass::take() {
  const bool chosen = layer_.options.channel_blocks != 0;
  const std::int64_t wanted = chosen ? std::min(layer_.options.channel_blocks, layer_.channels)
                                     : blocks_of(arguments_.x, layer_.options.backend);
  const std::int64_t blocks = chosen || group().size() == 1 ? wanted : working().blocks;
  const double wish =
      chosen ? static_cast<double>(wanted) : worthwhile(wanted, group(), working().pass_seconds);
  const double mean_wish = in_blocks(*this, blocks, wish);
  // Another number of blocks means messages of new lengths, so it changes by a factor of 2 or not
  // at all.
  const auto next = std::clamp<std::int64_t>(std::llround(mean_wish), 1, layer_.channels);
  if (next >= 2 * working().blocks || 2 * next <= working().blocks) {
    working().blocks = next;
  }
  working().pass_seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count();
}

void ForwardPass::end_forward(Saved& saved) {
  move_to_batch();
  save(layer_, arguments_, saved);
  saved.blocks = working().blocks;
  saved.forward = ++layer_.forwards;
}

void ForwardPass::end_infer() {
  move_to_batch();
}

void ForwardPass::move_to_batch() {
  layer_.move_to_batch(arguments_.x.dtype());
  layer_.pivot_retries += repeated_ ? 1 : 0;
}

void forward(Layer& layer, const ForwardArguments& arguments, Saved& saved) try {
  const DefaultArithmetic arithmetic;
  validate(arguments, layer);
  ForwardPass pass(layer, comm::Operation::forward, arguments);
  pass.take();
  pass.end_forward(saved);
} catch (const InvalidArgument& error) {
  layer.group().refused(error.what());
  throw;
}

void infer(Layer& layer, const ForwardArguments& arguments) try {
  const DefaultArithmetic arithmetic;
  validate(arguments, layer);
  if (layer.options.track_running_stats) {
    layer.take_running_statistics();
    normalize(layer, arguments, all_channels(arguments.x));
  } else {
    ForwardPass pass(layer, comm::Operation::infer, arguments);
    pass.take();
    pass.end_infer();
  }
} catch (const InvalidArgument& error) {
  if (!layer.options.track_running_stats) {  // otherwise no rank waits for it
    layer.group().refused(error.what());
  }
  throw;
}

void infer(Layer& layer, const ForwardArguments& arguments, Saved& saved) {
  if (!layer.options.track_running_stats) {
    throw NotConfigured("layer '" + layer.options.name +
                        "' keeps no running statistics to freeze. Use forward, or "
                        "track_running_stats.");
  }
  infer(layer, arguments);
  save(layer, arguments, saved);
  saved.frozen = true;
  saved.blocks = 1;
  saved.forward = -1;  // infers are not counted: ranks may differ in how many they make
}

}  // namespace syncbn::bn
