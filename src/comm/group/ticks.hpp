// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#if defined(__x86_64__)
#include <x86intrin.h>
#else
#include <chrono>
#endif

namespace syncbn::comm {

/// Time as the processor's counter gives it. Every exchange reads it twice, and the counter costs
/// less than the system's clock. It is the same for all processes of a host.
using Ticks = std::int64_t;

inline Ticks ticks_now() {
#if defined(__x86_64__)
  return static_cast<Ticks>(__rdtsc());
#elif defined(__aarch64__)
  std::uint64_t count;
  asm volatile("mrs %0, cntvct_el0" : "=r"(count));
  return static_cast<Ticks>(count);
#else
  return std::chrono::steady_clock::now().time_since_epoch().count();
#endif
}

/// Returns the length of a tick, measured against the system's clock since the program began; waits
/// until at least 1 ms has passed since. [s]
double seconds_per_tick();

}  // namespace syncbn::comm
