// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "syncbn/tensor_view.hpp"

namespace syncbn {

// Each throws InvalidArgument naming the argument, what it is and what was expected.

void require_like_x(const ConstTensorView& x, const ConstTensorView& other, std::string_view name);
void require_length(std::size_t length, std::size_t expected, std::string_view name,
                    const ConstTensorView& x);
void require_channels(const ConstTensorView& x, std::int64_t channels, std::string_view layer);

}  // namespace syncbn
