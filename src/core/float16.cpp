// SPDX-License-Identifier: Apache-2.0
#include "core/float16.hpp"

#include "core/float16_bits.hpp"

namespace syncbn {
Float16::operator double() const {
  return Float16Bits::decode(bits);
}
Float16 Float16::from(double value) {
  return {Float16Bits::encode(value)};
}

BFloat16::operator double() const {
  return BFloat16Bits::decode(bits);
}
BFloat16 BFloat16::from(double value) {
  return {BFloat16Bits::encode(value)};
}

}  // namespace syncbn
