// SPDX-License-Identifier: Apache-2.0
#include "syncbn/tensor_view.hpp"

#include <limits>
#include <string>

#include "syncbn/error.hpp"

namespace syncbn::detail {

void validate_view(const void* data, DType dtype, const Shape& shape) {
  const auto text = [&] {
    return "tensor of n=" + std::to_string(shape.n) + " c=" + std::to_string(shape.c) +
           " s=" + std::to_string(shape.s);
  };
  if (shape.n < 0 || shape.c < 1 || shape.s < 0) {
    throw InvalidArgument(text() + " (n and s must be at least 0, c at least 1)");
  }
  std::int64_t bytes = static_cast<std::int64_t>(size_of(dtype));
  for (const std::int64_t extent : {shape.n, shape.c, shape.s}) {
    if (extent != 0 && bytes > std::numeric_limits<std::int64_t>::max() / extent) {
      throw InvalidArgument(text() + " (its size in bytes does not fit 63 bits)");
    }
    bytes *= extent;
  }
  if (data == nullptr && bytes != 0) {
    throw InvalidArgument(text() + " has no data (null pointer)");
  }
}

}  // namespace syncbn::detail
