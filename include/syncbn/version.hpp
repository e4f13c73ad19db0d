// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

namespace syncbn {

/// "major.minor.patch" of the library that is linked.
std::string_view version();

}  // namespace syncbn
