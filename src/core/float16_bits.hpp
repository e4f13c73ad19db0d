// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#include "core/host_device.hpp"

namespace syncbn {

/// Converts between double and a binary16-like format of `kMantissa` stored bits, 15 - kMantissa
/// exponent bits, and one sign bit. It is the same on the host and in a kernel.
template <int kMantissa>
struct NarrowFloat {
  static constexpr int exponent_bits = 15 - kMantissa;
  static constexpr int bias = (1 << (exponent_bits - 1)) - 1;
  static constexpr int min_exponent = 1 - bias;  // exponent of the smallest normal number
  static constexpr std::uint16_t infinity = ((1 << exponent_bits) - 1) << kMantissa;

  SYNCBN_HOST_DEVICE static double decode(std::uint16_t bits) {
    const double sign = (bits & 0x8000) != 0 ? -1.0 : 1.0;
    const int exponent = (bits & infinity) >> kMantissa;
    const int mantissa = bits & ((1 << kMantissa) - 1);
    if (exponent == (1 << exponent_bits) - 1) {
      return std::copysign(mantissa != 0 ? not_a_number() : HUGE_VAL, sign);
    }
    if (exponent == 0) {
      return sign * std::ldexp(mantissa, min_exponent - kMantissa);
    }
    return sign * std::ldexp(mantissa + (1 << kMantissa), exponent - bias - kMantissa);
  }

  SYNCBN_HOST_DEVICE static std::uint16_t encode(double value) {
    const std::uint16_t sign = std::signbit(value) ? 0x8000 : 0;
    if (std::isnan(value)) {
      return sign | infinity | 1 << (kMantissa - 1);
    }
    const double magnitude = std::fabs(value);
    if (std::isinf(magnitude)) {
      return sign | infinity;
    }
    // Count in units of the last place at this magnitude; nearbyint rounds ties to even. A carry
    // out of the mantissa lands in the exponent, where it belongs, up to infinity.
    const int own = magnitude == 0 ? min_exponent : std::ilogb(magnitude);
    const int exponent = own < min_exponent ? min_exponent : own;
    const double units = std::nearbyint(std::ldexp(magnitude, kMantissa - exponent));
    const long encoded =
        (static_cast<long>(exponent - min_exponent) << kMantissa) + static_cast<long>(units);
    return sign | static_cast<std::uint16_t>(encoded < infinity ? encoded : infinity);
  }

 private:
  SYNCBN_HOST_DEVICE static double not_a_number() {
    return std::bit_cast<double>(std::uint64_t{0x7ff8} << 48);
  }
};

using Float16Bits = NarrowFloat<10>;
using BFloat16Bits = NarrowFloat<7>;

}  // namespace syncbn
