// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#if defined(__x86_64__)
#include <x86intrin.h>
#else
#include <chrono>
#endif

namespace syncbn::comm {

/// Time as every exchange needs it twice, from the processor's counter: no call of the system's
/// clock stands between a message and its exchange. The same for all processes of a host.
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

/// Measured against the system's clock since the program began.
double seconds_per_tick();

}  // namespace syncbn::comm
