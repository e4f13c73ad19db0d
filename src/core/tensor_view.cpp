// SPDX-License-Identifier: Apache-2.0
#include "syncbn/tensor_view.hpp"

#include <algorithm>
#include <cstdint>
#include <string>

#include "syncbn/error.hpp"

namespace syncbn::detail {

void validate_view(const void* data, DType dtype, const Shape& shape) {
  const auto text = [&] {
    return "tensor of n=" + std::to_string(shape.n) + " c=" + std::to_string(shape.c) +
           " s=" + std::to_string(shape.s);
  };
  if (shape.n < 0 || shape.c < 1 || shape.s < 0 || shape.c > Shape::most_channels) {
    throw InvalidArgument(text() + " (n and s must be at least 0, c at least 1 and at most 2^40)");
  }
  const auto element = static_cast<std::int64_t>(size_of(dtype));
  std::int64_t bytes = element;
  for (const std::int64_t extent : {shape.n, shape.c, shape.s}) {
    // An extent of 0 does not excuse the others: products of two of them are taken too.
    if (__builtin_mul_overflow(bytes, std::max<std::int64_t>(extent, 1), &bytes)) {
      throw InvalidArgument(text() + " (its size in bytes does not fit 63 bits)");
    }
  }
  if (shape.size() == 0) {
    return;
  }
  if (data == nullptr) {
    throw InvalidArgument(text() + " has no data (null pointer)");
  }
  const auto beside =
      reinterpret_cast<std::uintptr_t>(data) & (static_cast<std::uintptr_t>(element) - 1);
  if (beside != 0) {
    throw InvalidArgument(text() + " begins " + std::to_string(beside) +
                          " bytes behind a multiple of " + std::to_string(element) + " (elements " +
                          "of " + std::string(to_string(dtype)) +
                          " are aligned to their size). Copy it to aligned memory.");
  }
}

}  // namespace syncbn::detail
