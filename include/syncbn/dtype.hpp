// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace syncbn {

/// A DType is the element type of a tensor. f16 is IEEE 754 binary16, bf16 the upper half of a
/// binary32; both are passed as 16-bit words and rounded to nearest, ties to even, when written.
enum class DType : std::uint8_t { f32, f64, f16, bf16 };

/// Returns the size of an element. [B]
constexpr std::size_t size_of(DType dtype) {
  switch (dtype) {
    case DType::f64:
      return 8;
    case DType::f32:
      return 4;
    case DType::f16:
    case DType::bf16:
      return 2;
  }
  return 0;
}

constexpr std::string_view to_string(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return "f32";
    case DType::f64:
      return "f64";
    case DType::f16:
      return "f16";
    case DType::bf16:
      return "bf16";
  }
  return "?";
}

}  // namespace syncbn
