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
// kernels/statistics.hpp), or the last batch's mean where that is far from it or none is tracked.
// If the reduced sums show that K was too far from the mean, the first two steps are repeated about
// the mean they gave (repeated_sums.hpp): decided from the reduced values, hence alike on every
// rank.

#include <algorithm>
#include <chrono>
#include <cmath>

#include "syncbn/batch_norm.hpp"
#include "syncbn/error.hpp"

#include "core/default_arithmetic.hpp"

#include "bn/calls.hpp"
#include "bn/exact_sums.hpp"
#include "bn/in_blocks.hpp"
#include "bn/joint_message.hpp"
#include "bn/repeated_sums.hpp"
#include "bn/validate.hpp"
#include "comm/fingerprint.hpp"
#include "comm/group.hpp"
#include "kernels/statistics.hpp"
#include "kernels/windows.hpp"

namespace syncbn {

struct BatchNorm::Forward {
  ConstTensorView x;
  std::optional<ConstTensorView> residual;
  TensorView y;
  Weight weight;
  bool in_place = false;

  comm::Given given() const {
    return in_place ? comm::Given::in_place : residual ? comm::Given::residual : comm::Given::x;
  }
};

namespace {

using Clock = std::chrono::steady_clock;

/// Blocks must be worth their exchanges: together these may take a twentieth of the pass.
double worthwhile(std::int64_t blocks, const comm::Group& group, double pass_seconds) {
  const bool cheap = static_cast<double>(blocks) * group.fastest() <= 0.05 * pass_seconds;
  return group.size() == 1 || cheap ? static_cast<double>(blocks) : 1;
}

}  // namespace

void BatchNorm::forward(ConstTensorView x, TensorView y, Saved& saved, Weight weight) {
  forward_with({x, std::nullopt, y, weight}, saved);
}

void BatchNorm::forward(ConstTensorView x, ConstTensorView residual, TensorView y, Saved& saved,
                        Weight weight) {
  forward_with({x, residual, y, weight}, saved);
}

void BatchNorm::forward_in_place(TensorView x, Saved& saved, Weight weight) {
  require_invertible();
  forward_with({x, std::nullopt, x, weight, true}, saved);
}

void BatchNorm::infer(ConstTensorView x, TensorView y, Weight weight) {
  infer_with({x, std::nullopt, y, weight});
}

void BatchNorm::infer(ConstTensorView x, ConstTensorView residual, TensorView y, Weight weight) {
  infer_with({x, residual, y, weight});
}

void BatchNorm::infer(ConstTensorView x, TensorView y, Saved& saved, Weight weight) {
  infer_with({x, std::nullopt, y, weight}, saved);
}

void BatchNorm::infer(ConstTensorView x, ConstTensorView residual, TensorView y, Saved& saved,
                      Weight weight) {
  infer_with({x, residual, y, weight}, saved);
}

void BatchNorm::forward_with(const Forward& pass, Saved& saved) try {
  const DefaultArithmetic arithmetic;
  validate_forward(pass);
  with_group_statistics(comm::Pass::forward, pass);
  end_forward(pass, saved);
} catch (const InvalidArgument& error) {
  group_.group().refused(error.what());
  throw;
}

void BatchNorm::validate_forward(const Forward& pass) const {
  require_channels(pass.x, channels_, options_.name);
  require_like_x(pass.x, pass.y, "y");
  if (pass.residual) {
    require_like_x(pass.x, *pass.residual, "residual");
  }
  require_sound(memory_of_forward(pass.x, pass.residual, pass.y, pass.weight));
}

void BatchNorm::end_forward(const Forward& pass, Saved& saved) {
  update_running_statistics();
  choose_next_pivot(pass.x.dtype());
  save_pass(pass, saved);
  saved.blocks = working_->blocks;
  saved.forward = ++forwards_;
}

void BatchNorm::save_pass(const Forward& pass, Saved& saved) const {
  saved.statistics = working_->statistics;
  saved.shape = pass.x.shape();
  saved.dtype = pass.x.dtype();
  saved.layout = pass.x.layout();
  saved.had_residual = pass.residual.has_value();
  saved.had_weight = !pass.weight.empty();
  saved.in_place = pass.in_place;
  saved.frozen = false;
  saved.layer = options_.name;
  saved.layer_number = working_->layer.number;
}

BatchNorm::Forward BatchNorm::forward_of(const ForwardCall& call) {
  return {call.x, call.residual, call.y, call.weight};
}

void BatchNorm::forward_into(bn::JointMessage& message, std::span<const ForwardCall> calls) {
  if (calls.empty()) {
    message.exchange();
    return;
  }
  BatchNorm& layer = calls.front().layer;
  layer.with_forward_steps(comm::Pass::forward, forward_of(calls.front()),
                           [&](const comm::Descriptor& what, bn::Steps& steps) {
                             const auto part = message.add(what, steps, *layer.working_);
                             forward_into(message, calls.subspan(1));
                             message.use(part, steps, *layer.working_);
                           });
}

void forward_together(std::span<const ForwardCall> calls) try {
  if (calls.empty()) {
    return;
  }
  const DefaultArithmetic arithmetic;
  bn::require_one_group(calls);
  for (const ForwardCall& call : calls) {
    call.layer.validate_forward(BatchNorm::forward_of(call));
    bn::count_of(call.x, call.weight);
  }
  bn::require_calls_apart(calls, [](const ForwardCall& call) {
    return memory_of_forward(call.x, call.residual, call.y, call.weight);
  });
  BatchNorm& first = calls.front().layer;
  bn::JointMessage message(first.group_.group(), *first.working_);
  message.guarded([&] { BatchNorm::forward_into(message, calls); });
  for (const ForwardCall& call : calls) {
    call.layer.end_forward(BatchNorm::forward_of(call), call.saved);
  }
} catch (const InvalidArgument& error) {
  calls.front().layer.group_.group().refused(error.what());
  throw;
}

void BatchNorm::infer_with(const Forward& pass) try {
  const DefaultArithmetic arithmetic;
  validate_forward(pass);
  if (!options_.track_running_stats) {
    with_group_statistics(comm::Pass::infer, pass);
    choose_next_pivot(pass.x.dtype());
    return;
  }
  bn::count_of(pass.x, pass.weight);
  take_running_statistics();
  normalize_channels(pass, bn::all_channels(pass.x));
} catch (const InvalidArgument& error) {
  if (!options_.track_running_stats) {  // else nobody waits for it
    group_.group().refused(error.what());
  }
  throw;
}

void BatchNorm::infer_with(const Forward& pass, Saved& saved) {
  if (!options_.track_running_stats) {
    throw NotConfigured("layer '" + options_.name +
                        "' keeps no running statistics to freeze. Use forward, or "
                        "track_running_stats.");
  }
  infer_with(pass);
  save_pass(pass, saved);
  saved.frozen = true;
  saved.blocks = 1;
  saved.forward = -1;  // infers are not counted: ranks may differ in how many they make
}

void BatchNorm::normalize_channels(const Forward& pass, const kernels::ChannelRange& channels) {
  bn::normalize(pass.x, channels, working_->statistics, affine(), options_.activation,
                pass.residual, pass.y, pass.weight, options_.backend, *working_);
}

void BatchNorm::with_group_statistics(comm::Pass kind, const Forward& pass) {
  bn::Workspace& working = *working_;
  comm::Group& group = group_.group();
  const Clock::time_point begin = Clock::now();
  const bool chosen = options_.channel_blocks != 0;
  const std::int64_t wanted = chosen ? std::min(options_.channel_blocks, channels_)
                                     : bn::blocks_of(pass.x, options_.backend);
  const std::int64_t blocks = chosen || group.size() == 1 ? wanted : working.blocks;
  const double wished =
      chosen ? static_cast<double>(wanted) : worthwhile(wanted, group, working.pass_seconds);
  double wish = 0;
  with_forward_steps(kind, pass, [&](const comm::Descriptor& what, bn::Steps& steps) {
    wish = bn::in_blocks(group, what, channels_, blocks, working, steps, wished);
  });
  // Every new number brings messages of new lengths: change it for a good reason only.
  const auto then = std::clamp<std::int64_t>(std::llround(wish), 1, channels_);
  if (then >= 2 * working.blocks || 2 * then <= working.blocks) {
    working.blocks = then;
  }
  working.pass_seconds = std::chrono::duration<double>(Clock::now() - begin).count();
}

template <class Take>
void BatchNorm::with_forward_steps(comm::Pass kind, const Forward& pass, Take take) {
  bn::Workspace& working = *working_;
  comm::Group& group = group_.group();
  working.count = bn::count_of(pass.x, pass.weight);
  prepare_pivot(pass.x.dtype());
  const comm::Descriptor what{.pass = kind,
                              .layer = working.layer.label,
                              .channels = channels_,
                              .dtype = pass.x.dtype(),
                              .shared = shared_state(),
                              .options = working.options,
                              .parameters = compared_parameters(),
                              .given = pass.given()};
  bool retried = false;
  const auto use = [&](const bn::ChannelRange& channels) {
    bn::finalize(channels, working.sums, pivot_, options_.eps, working.statistics);
    normalize_channels(pass, channels);
  };
  if (working.exact) {
    working.exact->count = bn::count_exactly(pass.x, pass.weight);
    bn::ExactForward exact(group, what, working, options_.backend, pass.x, pass.weight, pivot_,
                           options_.eps);
    exact.choose_windows(working.exact->var);
    const auto sum = [&](const bn::ChannelRange& channels) { exact.sum(channels); };
    const bn::Repeats repeats{
        [&](const bn::ChannelRange& channels) { return exact.is_settled(channels); },
        [&](const bn::ChannelRange& channels) {
          exact.settle(channels);
          retried = true;
        }};
    bn::StepsOf steps(exact, sum, repeats, use);
    take(what, steps);
  } else {
    const auto sum = [&](const bn::ChannelRange& channels) {
      bn::forward_sums(pass.x, channels, pass.weight, pivot_, working.sums, options_.backend,
                       working);
    };
    const bn::Repeats repeats{[&](const bn::ChannelRange& channels) {
                                return !bn::must_repeat_sums(pass.x.dtype(), channels, pivot_,
                                                             options_.eps, working);
                              },
                              [&](const bn::ChannelRange& channels) {
                                bn::repeat_sums(group, what, pass.x, pass.weight, channels, pivot_,
                                                options_.eps, options_.backend, working);
                                retried = true;
                              }};
    bn::PlainMessage content(working);
    bn::StepsOf steps(content, sum, repeats, use);
    take(what, steps);
  }
  pivot_retries_ += retried ? 1 : 0;
}

void BatchNorm::require_invertible() const {
  try {
    syncbn::require_invertible(options_.activation, weight_);
  } catch (const InvalidArgument& error) {
    const std::string why = "layer '" + options_.name + "': " + error.what();
    group_.group().refused(why);
    throw InvalidArgument(why);
  }
}

void BatchNorm::prepare_pivot(DType dtype) {
  if (num_batches_tracked_ == 0) {  // what is there now is what running statistics start from
    start_mean_ = running_mean_;
    start_var_ = running_var_;
  }
  if (!knows_mean_ && options_.track_running_stats) {
    const double share = share_of_start(options_.momentum.value_or(1.0), num_batches_tracked_);
    for (std::size_t c = 0; c < pivot_.size(); ++c) {
      pivot_[c] = without_start(running_mean_[c], start_mean_[c], share);
      if (working_->exact && num_batches_tracked_ > 0) {
        working_->exact->var[c] =
            std::max(0.0, without_start(running_var_[c], start_var_[c], share));
      }
    }
  }
  std::ranges::transform(pivot_, pivot_.begin(),
                         [dtype](double mean) { return to_pivot(mean, dtype); });
}

void BatchNorm::choose_next_pivot(DType dtype) {
  const Statistics& statistics = working_->statistics;
  if (statistics.count == 0) {
    return;
  }
  const bool tracked = options_.track_running_stats;
  const double share = share_of_start(options_.momentum.value_or(1.0), num_batches_tracked_);
  const double limit = working_->exact ? nearness_of_exact_sums : nearness(statistics.count, dtype);
  for (std::size_t c = 0; c < pivot_.size(); ++c) {
    const ChannelStatistics batch{statistics.mean[c], statistics.var[c]};
    const double mean =
        tracked ? without_start(running_mean_[c], start_mean_[c], share) : batch.mean;
    pivot_[c] = next_pivot(mean, batch, options_.eps, limit, dtype);
    if (working_->exact) {
      const double var = tracked ? without_start(running_var_[c], start_var_[c], share) : batch.var;
      working_->exact->var[c] = next_variance(var, batch.var);
    }
  }
  knows_mean_ = true;
}

std::uint64_t BatchNorm::shared_state() const {
  if (group_.size() == 1) {
    return 0;  // nobody to compare with
  }
  comm::Fingerprint print;
  if (working_->exact) {
    print.add(std::as_bytes(std::span(working_->exact->var)))
        .add(std::as_bytes(std::span(working_->exact->gradient_exponent)));
  }
  return print.add(std::as_bytes(std::span(pivot_)))
      .add(std::as_bytes(std::span(running_mean_)))
      .add(std::as_bytes(std::span(running_var_)))
      .add(static_cast<std::uint64_t>(forwards_))
      .value();
}

std::uint64_t BatchNorm::compared_parameters() const {
  if (group_.size() == 1 || !options_.affine || !options_.compare_parameters) {
    return 0;
  }
  constexpr std::int64_t parts = 8, least = 8;
  const std::int64_t cuts = std::clamp<std::int64_t>(channels_ / least, 1, parts);
  const bn::ChannelRange now = bn::block(channels_, cuts, forwards_ % cuts);
  const auto of_now = [&](const std::vector<double>& values) {
    return std::as_bytes(std::span(values).subspan(static_cast<std::size_t>(now.begin),
                                                   static_cast<std::size_t>(now.size())));
  };
  return comm::Fingerprint().add(of_now(weight_)).add(of_now(bias_)).value();
}

void BatchNorm::take_running_statistics() {
  Statistics& statistics = working_->statistics;
  statistics.mean = running_mean_;
  statistics.var = running_var_;
  std::ranges::transform(running_var_, statistics.invstd.begin(),
                         [&](double var) { return inverse_std(var, options_.eps); });
}

void BatchNorm::update_running_statistics() {
  const Statistics& statistics = working_->statistics;
  const double n = statistics.count;
  if (!options_.track_running_stats || n == 0) {
    return;
  }
  ++num_batches_tracked_;
  const double newest = options_.momentum.value_or(1.0 / static_cast<double>(num_batches_tracked_));
  for (std::size_t c = 0; c < running_mean_.size(); ++c) {
    move_running(running_mean_[c], running_var_[c], {statistics.mean[c], statistics.var[c]}, n,
                 newest);
  }
}

}  // namespace syncbn
