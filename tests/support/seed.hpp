// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <cstdlib>
#include <random>

namespace syncbn::test {

/// Returns the seed of what this process leaves to chance: SYNCBN_SEED, or another one each time.
inline std::uint32_t seed() {
  static const std::uint32_t chosen = [] {
    const char* const given = std::getenv("SYNCBN_SEED");
    return given != nullptr ? static_cast<std::uint32_t>(std::atoll(given))
                            : std::random_device()();
  }();
  return chosen;
}

}  // namespace syncbn::test
