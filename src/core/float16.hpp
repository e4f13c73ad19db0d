// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace syncbn {

/// IEEE 754 binary16 as stored. Conversions round to nearest, ties to even, subnormals included;
/// a NaN stays a NaN. From double: rounded once, not through float.
struct Float16 {
  std::uint16_t bits;

  explicit operator double() const;
  static Float16 from(double value);
};

/// The upper half of an IEEE 754 binary32 as stored. Conversions as for Float16.
struct BFloat16 {
  std::uint16_t bits;

  explicit operator double() const;
  static BFloat16 from(double value);
};

/// An element as double, and a double rounded to an element.
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
