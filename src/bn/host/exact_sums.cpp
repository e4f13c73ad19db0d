// SPDX-License-Identifier: Apache-2.0
#include "bn/host/exact_sums.hpp"

#include <algorithm>

#include "bn/host/phases.hpp"
#include "bn/operations.hpp"
#include "channels/for_each.hpp"

namespace syncbn::bn {
namespace {

channels::CountLimbs count(const ConstTensorView& x, const float* position_weights) {
  return channels::count_weights(position_weights, x.shape().per_channel());
}

}  // namespace

// --- both ------------------------------------------------------------------------------------

ExactSums::ExactSums(comm::Group& group, const comm::Descriptor& what, Workspace& working,
                     const double* mean)
    : group_(group),
      what_(what),
      working_(working),
      mean_(mean),
      code_(channels::exponent_code(group.size())),
      message_(working.repeated) {
  what_.operation = &second_sums_operation();
}

template <class Run>
void ExactSums::for_wanted(const ChannelRange& channels, Run run) const {
  const int* wanted = of().wanted;
  for (ChannelRange part{channels.begin, channels.begin}; part.begin < channels.end;
       part.begin = part.end) {
    const bool is_wanted = wanted[part.begin] != 0;
    while (part.end < channels.end && (wanted[part.end] != 0) == is_wanted) {
      ++part.end;
    }
    if (is_wanted) {
      run(part);
    }
  }
}

void ExactSums::sum(const ChannelRange& channels) {
  for_wanted(channels, [this](const ChannelRange& part) { tally(part); });
}

void ExactSums::pack(const ChannelRange& channels, std::vector<double>& message) const {
  const channels::ExactPass of_range = pass(channels);
  message.resize(static_cast<std::size_t>(of_range.words()));
  channels::for_each_channel(channels::PackSums{of_range, message.data()});
}

void ExactSums::unpack(const ChannelRange& channels, const double* message) {
  settle_round(pass(channels), message, 0);
}

void ExactSums::keep(const ChannelRange& channels) {
  pack(channels, message_);
  unpack(channels, message_.data());
}

bool ExactSums::is_settled(const ChannelRange& channels) const {
  const int* wanted = of().wanted;
  return std::all_of(wanted + channels.begin, wanted + channels.end,
                     [](int is_wanted) { return is_wanted == 0; });
}

void ExactSums::settle(const ChannelRange& channels) {
  const channels::ExactPass of_range = pass(channels);
  for (int round = 1; round < rounds() && !is_settled(channels); ++round) {
    for_wanted(channels, [this](const ChannelRange& part) { tally_magnitudes(part); });
    message_.resize(static_cast<std::size_t>(code_.message_words(channels.size())));
    channels::for_each_channel(channels::PackExponents{of_range, code_, message_.data()});
    exchange();
    channels::for_each_channel(channels::FitWindows{of_range, code_, message_.data(), mean_});
    sum(channels);
    pack(channels, message_);
    exchange();
    settle_round(of_range, message_.data(), round);
  }
}

void ExactSums::exchange() {
  if (group_.size() > 1) {
    group_.exchange(what_, message_);
  }
}

// --- forward ---------------------------------------------------------------------------------

ExactForward::ExactForward(comm::Group& group, const comm::Descriptor& what, Workspace& working,
                           Backend backend, const ConstTensorView& x,
                           PositionWeights position_weights, std::span<double> pivot, double eps)
    : ExactSums(group, what, working, nullptr),
      kernels_(kernels::select(backend)),
      x_(x),
      position_weights_(position_weights),
      pivot_(pivot),
      eps_(eps) {
  channels::for_each_channel(channels::ChooseForward{
      pass(all_channels(x)), count(x, data_or_null(position_weights)), eps, pivot.data()});
}

kernels::ForwardSums ExactForward::terms() const {
  return {
      .x = x_, .weight = data_or_null(position_weights_), .pivot = pivot_.data(), .sums = nullptr};
}

void ExactForward::tally(const ChannelRange& channels) {
  kernels_.forward_in_fixed_point(terms(), channels, of(), {.scratch = working().scratch});
}

void ExactForward::tally_magnitudes(const ChannelRange& channels) {
  kernels_.forward_magnitudes(terms(), channels, of(), {.scratch = working().scratch});
}

void ExactForward::settle_round(const channels::ExactPass& pass, const double* message, int round) {
  channels::for_each_channel(
      channels::SettleForward{pass, message, round, eps_, pivot_.data(), working().sums.data()});
}

// --- backward --------------------------------------------------------------------------------

ExactBackward::ExactBackward(comm::Group& group, const comm::Descriptor& what, Workspace& working,
                             Backend backend, const kernels::Upstream& upstream,
                             const double* invstd)
    : ExactSums(group, what, working, upstream.mean),
      backend_(backend),
      upstream_(upstream),
      invstd_(invstd) {
  channels::for_each_channel(channels::ChooseBackward{pass(all_channels(upstream.data)),
                                                      count(upstream.data, upstream.weight),
                                                      upstream.mean, invstd});
}

template <class Run>
void ExactBackward::in_parts(const ChannelRange& channels, Run run) {
  in_range_of(upstream_.data.dtype(), backend_, channels, invstd_, upstream_.scale,
              [&](const kernels::Kernels& kernels, const ChannelRange& part) {
                run(kernels, kernels::BackwardSums{upstream_, nullptr}, part);
              });
}

void ExactBackward::tally(const ChannelRange& channels) {
  in_parts(channels, [&](const kernels::Kernels& kernels, const kernels::BackwardSums& terms,
                         const ChannelRange& part) {
    kernels.backward_in_fixed_point(terms, part, of(), {.scratch = working().scratch});
  });
}

void ExactBackward::tally_magnitudes(const ChannelRange& channels) {
  in_parts(channels, [&](const kernels::Kernels& kernels, const kernels::BackwardSums& terms,
                         const ChannelRange& part) {
    kernels.backward_magnitudes(terms, part, of(), {.scratch = working().scratch});
  });
}

void ExactBackward::settle_round(const channels::ExactPass& pass, const double* message,
                                 int round) {
  channels::for_each_channel(channels::SettleBackward{pass, message, round, working().sums.data(),
                                                      working().own_sums.data()});
}

}  // namespace syncbn::bn
