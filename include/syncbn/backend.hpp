// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string_view>

namespace syncbn {

/// Which kernels compute.
enum class Backend : std::uint8_t {
  cpu,        ///< vectorized for the machine it runs on, OpenMP threads
  reference,  ///< scalar, in double, written to be read: the oracle the others are tested against
};

constexpr std::string_view to_string(Backend backend) {
  return backend == Backend::cpu ? "cpu" : "reference";
}

/// The vector instruction set that Backend::cpu uses on this machine, e.g. "AVX3".
std::string_view instruction_set();

}  // namespace syncbn
