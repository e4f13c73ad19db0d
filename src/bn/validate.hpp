// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "syncbn/batch_norm.hpp"

namespace syncbn {

// Each throws InvalidArgument naming the argument, what it is and what was expected.

void require_like_x(const ConstTensorView& x, const ConstTensorView& other, std::string_view name);
void require_length(std::size_t length, std::size_t expected, std::string_view name,
                    const ConstTensorView& x);
/// eps is finite and at least 0. `whose` begins the message.
void require_eps(double eps, std::string_view whose = {});
/// The slope is finite and at least 0.
void require_slope(Activation activation);
/// A forward's input can be recovered from its output: a slope above 0, no gamma of 0.
void require_invertible(Activation activation, std::span<const double> gamma);
void require_channels(const ConstTensorView& x, std::int64_t channels, std::string_view layer);
/// `saved` is of a forward of the layer, and the arguments of its backward belong to that.
void require_backward_of(const Saved& saved, const BackwardContext& context, const TensorView& dx,
                         const std::optional<TensorView>& dresidual, std::int64_t channels,
                         const std::string& layer);

}  // namespace syncbn
