// SPDX-License-Identifier: Apache-2.0
#pragma once

// These kernels use the vector instructions of the machine that they run on, and OpenMP threads.

#include "kernels/kernels.hpp"

namespace syncbn::kernels::cpu {

void forward_sums(const ForwardSums& arguments, const ChannelRange& channels, const Run& run);
void normalize(const Normalize& arguments, const ChannelRange& channels, const Run& run);
void backward_sums(const BackwardSums& arguments, const ChannelRange& channels, const Run& run);
void input_gradient(const InputGradient& arguments, const ChannelRange& channels, const Run& run);
void forward_in_fixed_point(const ForwardSums& arguments, const ChannelRange& channels,
                            const channels::ExactChannels& to, const Run& run);
void backward_in_fixed_point(const BackwardSums& arguments, const ChannelRange& channels,
                             const channels::ExactChannels& to, const Run& run);
void forward_magnitudes(const ForwardSums& arguments, const ChannelRange& channels,
                        const channels::ExactChannels& to, const Run& run);
void backward_magnitudes(const BackwardSums& arguments, const ChannelRange& channels,
                         const channels::ExactChannels& to, const Run& run);

std::int64_t least_channels(const ConstTensorView& x);

}  // namespace syncbn::kernels::cpu
