// SPDX-License-Identifier: Apache-2.0
#include "bn/validate.hpp"

#include <string>

#include "syncbn/error.hpp"

namespace syncbn {
namespace {

std::string describe(const ConstTensorView& tensor) {
  const Shape& shape = tensor.shape();
  return "n=" + std::to_string(shape.n) + " c=" + std::to_string(shape.c) +
         " s=" + std::to_string(shape.s) + " " + std::string(to_string(tensor.dtype())) + " " +
         std::string(to_string(tensor.layout()));
}

}  // namespace

void require_like_x(const ConstTensorView& x, const ConstTensorView& other, std::string_view name) {
  if (other.shape() != x.shape() || other.dtype() != x.dtype() || other.layout() != x.layout()) {
    throw InvalidArgument(std::string(name) + " is " + describe(other) + " (x is " + describe(x) +
                          "). They must have the same shape, type and layout.");
  }
}

void require_length(std::size_t length, std::size_t expected, std::string_view name,
                    const ConstTensorView& x) {
  if (length != expected) {
    throw InvalidArgument(std::string(name) + " has " + std::to_string(length) +
                          " values (x with " + std::to_string(x.shape().c) + " channels needs " +
                          std::to_string(expected) + ")");
  }
}

void require_channels(const ConstTensorView& x, std::int64_t channels, std::string_view layer) {
  if (x.shape().c != channels) {
    throw InvalidArgument("x has " + std::to_string(x.shape().c) + " channels (layer '" +
                          std::string(layer) + "' has " + std::to_string(channels) +
                          "). Were the axes given in the tensor's own order?");
  }
}

}  // namespace syncbn
