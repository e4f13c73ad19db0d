// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

namespace syncbn::fuzz {

/// What a target does with an input: each has its own.
void run(std::string_view input);

}  // namespace syncbn::fuzz
