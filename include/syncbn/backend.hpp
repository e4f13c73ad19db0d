// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string_view>

#include "syncbn/export.h"

namespace syncbn {

/// A Backend is a set of kernels, which compute the phases.
enum class Backend : std::uint8_t {
  cpu,        ///< vectorized for the machine it runs on, OpenMP threads
  reference,  ///< scalar, in double, written to be read; the others are tested against it
};

constexpr std::string_view to_string(Backend backend) {
  return backend == Backend::cpu ? "cpu" : "reference";
}

/// Returns the vector instruction set that Backend::cpu uses on this machine, e.g. "AVX3".
SYNCBN_API std::string_view instruction_set();

}  // namespace syncbn
