// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

#include "syncbn/batch_norm.hpp"

namespace syncbn::bn {

/// Returns `channels`. Throws InvalidArgument unless a layer can have so many, and these options.
std::int64_t validated(std::int64_t channels, const BatchNormOptions& options);

/// An Identity tells layers apart.
struct Identity {
  std::string name;          ///< BatchNormOptions::name, or what takes its place
  std::string label;         ///< one of a kind in its group: the name, and which of that name
  std::uint64_t number = 0;  ///< one of a kind in this process
};

/// Returns a number that no other layer of this process has been given.
std::uint64_t new_layer_number();

/// Identifies a new layer over `group` (a comm::Group or comm::DeviceSum), which counts them by
/// name.
template <class Group>
Identity identify(const std::string& name, Group& group) {
  const std::int64_t before = group.count_subject(name);
  if (name.empty()) {
    const std::string counted = "batch_norm." + std::to_string(before);
    return {counted, counted, new_layer_number()};
  }
  const std::string which =
      before == 0 ? "" : " (no. " + std::to_string(before + 1) + " of this name)";
  return {name, name + which, new_layer_number()};
}

/// Returns the options that ranks must have in common as text that shows each difference; it has at
/// most 96 bytes as a rule.
std::string to_text(const BatchNormOptions& options);

}  // namespace syncbn::bn
