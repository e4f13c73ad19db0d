// SPDX-License-Identifier: Apache-2.0
#include "core/default_arithmetic.hpp"

// The functions are out of line, so that no compiler moves arithmetic past them.

#if defined(__SSE__)
#include <xmmintrin.h>
#elif !defined(__aarch64__)
#include <cfenv>
#endif

namespace syncbn {
namespace {

// `settings` are the bits of the control register that are 0 by default. Without a known register
// they are all bits of fegetround's result.
#if defined(__SSE__)

// MXCSR: flush to zero, rounding, denormals are zeros.
constexpr std::uint64_t settings = 0x8000 | 0x6000 | 0x0040;

std::uint64_t control() {
  return _mm_getcsr();
}
void set_control(std::uint64_t value) {
  _mm_setcsr(static_cast<unsigned>(value));
}

#elif defined(__aarch64__)

// FPCR: FZ, RMode, FZ16, and AH and FIZ of FEAT_AFP.
constexpr std::uint64_t settings = 1U << 24 | 3U << 22 | 1U << 19 | 3U;

std::uint64_t control() {
  std::uint64_t value = 0;
  asm volatile("mrs %0, fpcr" : "=r"(value));
  return value;
}
void set_control(std::uint64_t value) {
  asm volatile("msr fpcr, %0" : : "r"(value));
}

#else

constexpr std::uint64_t settings = ~std::uint64_t{0};
static_assert(FE_TONEAREST == 0);

std::uint64_t control() {
  return static_cast<std::uint64_t>(std::fegetround());
}
void set_control(std::uint64_t value) {
  std::fesetround(static_cast<int>(value));
}

#endif

}  // namespace

DefaultArithmetic::DefaultArithmetic() noexcept : own_(control() & settings) {
  if (own_ != 0) {
    set_control(control() & ~settings);
  }
}

DefaultArithmetic::~DefaultArithmetic() {
  if (own_ != 0) {
    set_control(control() | own_);
  }
}

}  // namespace syncbn
