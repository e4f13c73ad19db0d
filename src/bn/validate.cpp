// SPDX-License-Identifier: Apache-2.0
#include "bn/validate.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
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

void require_slope(Activation activation) {
  if (!(activation.negative_slope >= 0 && std::isfinite(activation.negative_slope))) {
    throw InvalidArgument("negative_slope = " + std::to_string(activation.negative_slope) +
                          " (a finite number of at least 0)");
  }
}

void require_invertible(Activation activation, std::span<const double> gamma) {
  constexpr double least = std::numeric_limits<float>::min();  // whose inverse is a float
  if (activation.negative_slope < least) {
    throw InvalidArgument(
        "relu cannot be inverted (it forgets what was below 0), so the input cannot be recovered "
        "from the output. Use leaky_relu, or keep the input.");
  }
  const auto zero =
      std::ranges::find_if(gamma, [](double value) { return std::fabs(value) < least; });
  if (zero != gamma.end()) {
    throw InvalidArgument(
        "gamma[" + std::to_string(zero - gamma.begin()) +
        "] is 0 or next to it (its channel's output is beta everywhere), so the input cannot be "
        "recovered from the output. Keep the input.");
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
