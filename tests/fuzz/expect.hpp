// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdio>
#include <cstdlib>
#include <string_view>

namespace syncbn::fuzz {

/// Ends the program, as libFuzzer wants it, where something is not as it is promised to be.
inline void expect(bool holds, std::string_view promise) {
  if (!holds) {
    std::fprintf(stderr, "broken promise: %.*s\n", static_cast<int>(promise.size()),
                 promise.data());
    std::abort();
  }
}

}  // namespace syncbn::fuzz
