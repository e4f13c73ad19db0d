// SPDX-License-Identifier: Apache-2.0
//
// clang-format off
// backward  sums      a = sum(dz), b = sum(dz * (x - mean)), dz = dy behind the activation
//                                                                 one read of x, dy
//           exchange  (a, b, n) summed over the group             one all-reduce of 2C + 2 doubles
//           gradient  dx = gamma * invstd * (dz - a / n - (x - mean) * invstd^2 * b / n)
//                                                                 one read of x, dy, one write of dx
//           dgamma += b * invstd, dbeta += a, of this rank's share or of the group's sums
// clang-format on
//
// Each block of channels goes through these by itself (see in_blocks.hpp). With a residual, the
// activation's side comes from y, which both passes read then. Behind an infer, whose statistics
// are no function of x, a and b are gradients of the parameters only: dx = gamma * invstd * dz.

#include <algorithm>

#include "syncbn/batch_norm.hpp"
#include "syncbn/error.hpp"

#include "core/default_arithmetic.hpp"

#include "bn/calls.hpp"
#include "bn/exact_sums.hpp"
#include "bn/in_blocks.hpp"
#include "bn/joint_message.hpp"
#include "bn/validate.hpp"
#include "comm/group.hpp"

namespace syncbn {

struct BatchNorm::Backward {
  BackwardContext context;
  TensorView dx;
  std::optional<TensorView> dresidual;
};

void BatchNorm::backward(const Saved& saved, ConstTensorView x, ConstTensorView dy, TensorView dx,
                         Weight weight) {
  backward_with({.context = {.x = x, .dy = dy, .statistics = saved.statistics, .weight = weight},
                 .dx = dx,
                 .dresidual = std::nullopt},
                saved);
}

void BatchNorm::backward(const Saved& saved, ConstTensorView x, ConstTensorView y,
                         ConstTensorView dy, TensorView dx, TensorView dresidual, Weight weight) {
  backward_with(
      {.context = {.x = x, .dy = dy, .statistics = saved.statistics, .y = y, .weight = weight},
       .dx = dx,
       .dresidual = dresidual},
      saved);
}

void BatchNorm::backward_in_place(const Saved& saved, ConstTensorView y, ConstTensorView dy,
                                  TensorView dx, Weight weight) {
  require_invertible();
  backward_with({.context = {.x = y,
                             .dy = dy,
                             .statistics = saved.statistics,
                             .weight = weight,
                             .from_output = true},
                 .dx = dx,
                 .dresidual = std::nullopt},
                saved);
}

void BatchNorm::backward_with(const Backward& pass, const Saved& saved) try {
  const DefaultArithmetic arithmetic;
  require_backward_of(saved, pass.context, pass.dx, pass.dresidual, channels_, working_->layer);
  with_backward_steps(pass, saved, [&](const comm::Descriptor& what, bn::Steps& steps) {
    if (is_local(saved)) {
      bn::in_blocks_here(channels_, saved.blocks, *working_, steps);
    } else {
      bn::in_blocks(group_.group(), what, channels_, saved.blocks, *working_, steps, 0);
    }
  });
  add_parameter_gradients(saved);
} catch (const InvalidArgument& error) {
  if (!is_local(saved)) {
    group_.group().refused(error.what());
  }
  throw;
}

bool BatchNorm::is_local(const Saved& saved) const {
  return saved.frozen && options_.parameter_gradients == GradientScope::local;
}

template <class Take>
void BatchNorm::with_backward_steps(const Backward& pass, const Saved& saved, Take take) {
  BackwardContext context = pass.context;
  context.affine = affine();
  context.activation = options_.activation;
  bn::Workspace& working = *working_;
  working.count = bn::count_of(context.x, context.weight);
  working.own_sums.resize(sums_length(channels_));
  const comm::Descriptor what{.pass = comm::Pass::backward,
                              .layer = working.layer.label,
                              .channels = channels_,
                              .dtype = context.x.dtype(),
                              .shared = static_cast<std::uint64_t>(saved.forward),
                              .options = working.options,
                              .given = given_in(saved)};
  if (saved.frozen) {
    working.no_sums.assign(sums_length(channels_), 0.0);
  }
  const std::vector<double>& through_statistics = saved.frozen ? working.no_sums : working.sums;
  const auto use = [&](const bn::ChannelRange& channels) {
    bn::input_gradient(context, channels, through_statistics, pass.dx, pass.dresidual,
                       options_.backend, working);
  };
  if (working.exact && !is_local(saved)) {
    working.exact->count = bn::count_exactly(context.x, context.weight);
    bn::ExactBackward exact(group_.group(), what, working, options_.backend, context);
    exact.choose_windows();
    const auto sum = [&](const bn::ChannelRange& channels) { exact.sum(channels); };
    const bn::Repeats repeats{
        [&](const bn::ChannelRange& channels) { return exact.is_settled(channels); },
        [&](const bn::ChannelRange& channels) { exact.settle(channels); }};
    const auto remember_and_use = [&](const bn::ChannelRange& channels) {
      exact.remember_exponents(channels);
      use(channels);
    };
    bn::StepsOf steps(exact, sum, repeats, remember_and_use);
    take(what, steps);
  } else {
    const auto sum = [&](const bn::ChannelRange& channels) {
      bn::backward_sums(context, channels, working.sums, options_.backend, working);
      for (const std::int64_t first : {channels.begin, channels_ + channels.begin}) {
        std::copy_n(working.sums.begin() + first, channels.size(),
                    working.own_sums.begin() + first);
      }
    };
    bn::PlainMessage content(working);
    const bn::Repeats no_repeats{[](const bn::ChannelRange&) { return true; },
                                 [](const bn::ChannelRange&) {}};
    bn::StepsOf steps(content, sum, no_repeats, use);
    take(what, steps);
  }
}

BatchNorm::Backward BatchNorm::backward_of(const BackwardCall& call) {
  return {.context = {.x = call.x,
                      .dy = call.dy,
                      .statistics = call.saved.statistics,
                      .y = call.y,
                      .weight = call.weight},
          .dx = call.dx,
          .dresidual = call.dresidual};
}

void BatchNorm::backward_into(bn::JointMessage& message, std::span<const BackwardCall> calls) {
  if (calls.empty()) {
    message.exchange();
    return;
  }
  const BackwardCall& call = calls.front();
  bn::Workspace& working = *call.layer.working_;
  call.layer.with_backward_steps(backward_of(call), call.saved,
                                 [&](const comm::Descriptor& what, bn::Steps& steps) {
                                   const auto part = message.add(what, steps, working);
                                   backward_into(message, calls.subspan(1));
                                   message.use(part, steps, working);
                                 });
}

void backward_together(std::span<const BackwardCall> calls) try {
  if (calls.empty()) {
    return;
  }
  const DefaultArithmetic arithmetic;
  bn::require_one_group(calls);
  for (const BackwardCall& call : calls) {
    const BatchNorm::Backward pass = BatchNorm::backward_of(call);
    require_backward_of(call.saved, pass.context, pass.dx, pass.dresidual, call.layer.channels_,
                        call.layer.working_->layer);
    bn::count_of(call.x, call.weight);
  }
  bn::require_calls_apart(calls, [](const BackwardCall& call) {
    const BatchNorm::Backward pass = BatchNorm::backward_of(call);
    return memory_of_backward(pass.context, pass.dx, pass.dresidual);
  });
  BatchNorm& first = calls.front().layer;
  bn::JointMessage message(first.group_.group(), *first.working_);
  message.guarded([&] { BatchNorm::backward_into(message, calls); });
  for (const BackwardCall& call : calls) {
    call.layer.add_parameter_gradients(call.saved);
  }
} catch (const InvalidArgument& error) {
  calls.front().layer.group_.group().refused(error.what());
  throw;
}

void BatchNorm::add_parameter_gradients(const Saved& saved) {
  const bn::Workspace& working = *working_;
  const std::vector<double>& share =
      options_.parameter_gradients == GradientScope::local ? working.own_sums : working.sums;
  for (std::size_t c = 0; c < weight_grad_.size(); ++c) {
    bias_grad_[c] += share[c];
    weight_grad_[c] += share[weight_grad_.size() + c] * saved.statistics.invstd[c];
  }
}

}  // namespace syncbn
