// SPDX-License-Identifier: Apache-2.0
#include "core/float16.hpp"

#include <algorithm>
#include <bit>
#include <cmath>

namespace syncbn {
namespace {

// Converts a binary16-like format of `kMantissa` stored bits, 15 - kMantissa exponent bits, one
// sign bit.
template <int kMantissa>
struct Format {
  static constexpr int exponent_bits = 15 - kMantissa;
  static constexpr int bias = (1 << (exponent_bits - 1)) - 1;
  static constexpr int min_exponent = 1 - bias;  // exponent of the smallest normal number
  static constexpr std::uint16_t infinity = ((1 << exponent_bits) - 1) << kMantissa;

  static double decode(std::uint16_t bits) {
    const double sign = (bits & 0x8000) != 0 ? -1.0 : 1.0;
    const int exponent = (bits & infinity) >> kMantissa;
    const int mantissa = bits & ((1 << kMantissa) - 1);
    if (exponent == (1 << exponent_bits) - 1) {
      return mantissa != 0 ? std::copysign(std::nan(""), sign) : sign * HUGE_VAL;
    }
    if (exponent == 0) {
      return sign * std::ldexp(mantissa, min_exponent - kMantissa);
    }
    return sign * std::ldexp(mantissa + (1 << kMantissa), exponent - bias - kMantissa);
  }

  static std::uint16_t encode(double value) {
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
    const int exponent =
        magnitude == 0 ? min_exponent : std::max(std::ilogb(magnitude), min_exponent);
    const double units = std::nearbyint(std::ldexp(magnitude, kMantissa - exponent));
    const long encoded =
        (static_cast<long>(exponent - min_exponent) << kMantissa) + static_cast<long>(units);
    return sign | static_cast<std::uint16_t>(std::min<long>(encoded, infinity));
  }
};

}  // namespace

Float16::operator double() const {
  return Format<10>::decode(bits);
}
Float16 Float16::from(double value) {
  return {Format<10>::encode(value)};
}

BFloat16::operator double() const {
  return static_cast<double>(std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16));
}
BFloat16 BFloat16::from(double value) {
  return {Format<7>::encode(value)};
}

}  // namespace syncbn
