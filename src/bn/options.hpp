// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

#include "syncbn/batch_norm.hpp"

namespace syncbn::bn {

/// The number of channels. Throws InvalidArgument unless it and the options can be had.
std::int64_t validated(std::int64_t channels, const BatchNormOptions& options);

/// What a layer is known by.
struct Identity {
  std::string name;          ///< BatchNormOptions::name, or what takes its place
  std::string label;         ///< among the layers of a group: the name, and which of that name
  std::uint64_t number = 0;  ///< among the layers of this process
};

/// A number that is given out once in this process.
std::uint64_t new_layer_number();

/// Of a new layer over `group` (a comm::Group or comm::DeviceSum).
template <class Group>
Identity identify(const std::string& name, Group& group) {
  const std::int64_t before = group.count_layer(name);
  if (name.empty()) {
    const std::string counted = "batch_norm." + std::to_string(before);
    return {counted, counted, new_layer_number()};
  }
  const std::string which =
      before == 0 ? "" : " (no. " + std::to_string(before + 1) + " of this name)";
  return {name, name + which, new_layer_number()};
}

/// What the ranks must have in common, each difference to be seen; in 96 bytes as a rule.
std::string to_text(const BatchNormOptions& options);

}  // namespace syncbn::bn
