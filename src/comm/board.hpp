// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "core/host_device.hpp"

namespace syncbn::comm {

/// How far a rank's messages are on its device. In pinned memory: written by the device, read by
/// the host whenever it likes.
struct Board {
  std::uint64_t started = 0;          ///< number of the message begun last: 1, 2, ...
  std::uint64_t started_plan = 0;     ///< and of its plan (agreement.hpp)
  std::uint64_t finished = 0;         ///< of the message finished last
  std::uint64_t disagreed = 0;        ///< of the first on which the ranks disagreed; 0: none
  std::uint64_t disagreed_plan = 0;   ///< and of its plan
  std::uint64_t disagreed_state = 0;  ///< and of this rank's Descriptor::shared_on_device
  std::uint64_t cancelled = 0;        ///< 1, written by the host: values are lost from now on
};

/// Writes a word for the other side, which sees what was written before as well.
SYNCBN_HOST_DEVICE inline void post(std::uint64_t& word, std::uint64_t value) {
#ifdef __CUDA_ARCH__
  __threadfence_system();
  *static_cast<volatile std::uint64_t*>(&word) = value;
#else
  __atomic_store_n(&word, value, __ATOMIC_RELEASE);
#endif
}

/// Reads one that the other side writes.
SYNCBN_HOST_DEVICE inline std::uint64_t look(const std::uint64_t& word) {
#ifdef __CUDA_ARCH__
  return *static_cast<const volatile std::uint64_t*>(&word);
#else
  return __atomic_load_n(&word, __ATOMIC_ACQUIRE);
#endif
}

}  // namespace syncbn::comm
