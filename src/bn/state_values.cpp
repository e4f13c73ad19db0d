// SPDX-License-Identifier: Apache-2.0
#include "bn/state_values.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "syncbn/error.hpp"

namespace syncbn::bn {

StateTensor saved_values(const std::string& name, const std::vector<double>& values) {
  const auto odd =
      std::ranges::find_if_not(values, [](double value) { return std::isfinite(value); });
  if (odd != values.end()) {
    throw FileError("tensor '" + name + "' cannot be saved (value " +
                    std::to_string(odd - values.begin()) + " is " + std::to_string(*odd) +
                    ": the layer has diverged). Go on from an earlier state.");
  }
  return StateTensor::from(values);
}

std::vector<double> download(const channels::Floats& array, std::int64_t channels,
                             const Place& place, CudaStream stream) {
  const auto length = static_cast<std::size_t>(channels);
  std::vector<std::byte> bytes(length * size_of(array.dtype()));
  place.download(array.data(), bytes, stream);
  place.wait(stream);
  const channels::ConstFloats copy(bytes.data(), array.dtype());
  std::vector<double> values(length);
  for (std::int64_t c = 0; c < channels; ++c) {
    values[static_cast<std::size_t>(c)] = copy[c];
  }
  return values;
}

void upload(const std::vector<double>& values, const channels::Floats& array, const Place& place,
            CudaStream stream) {
  std::vector<std::byte> bytes(values.size() * size_of(array.dtype()));
  const channels::Floats copy(bytes.data(), array.dtype());
  for (std::size_t c = 0; c < values.size(); ++c) {
    copy.set(static_cast<std::int64_t>(c), values[c]);
  }
  place.upload(bytes, array.data(), stream);
}

}  // namespace syncbn::bn
