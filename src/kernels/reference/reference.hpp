// SPDX-License-Identifier: Apache-2.0
#pragma once

// These kernels are written to be read: they run on one thread, one element at a time, in double,
// with sums in long double (or in fixed point). The other backends are tested against them.

#include "kernels/kernels.hpp"

namespace syncbn::kernels::reference {

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

}  // namespace syncbn::kernels::reference
