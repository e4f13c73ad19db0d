// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace syncbn {

/// Stores an IEEE 754 binary16. Conversions round to nearest, ties to even, subnormals included; a
/// NaN stays a NaN. A double is rounded once, not through float.
struct Float16 {
  std::uint16_t bits;

  explicit operator double() const;
  static Float16 from(double value);
};

/// Stores the upper half of an IEEE 754 binary32. Conversions are as for Float16.
struct BFloat16 {
  std::uint16_t bits;

  explicit operator double() const;
  static BFloat16 from(double value);
};

/// Convert an element to double, and round a double to an element.
template <class T>
double to_double(T value) {
  return static_cast<double>(value);
}
template <class T>
T from_double(double value) {
  if constexpr (requires { T::from(value); }) {
    return T::from(value);
  } else {
    return static_cast<T>(value);
  }
}

}  // namespace syncbn
