// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

#include "syncbn/batch_norm.hpp"

namespace syncbn::bn {

/// The number of channels. Throws InvalidArgument unless it and the options can be had.
std::int64_t validated(std::int64_t channels, const BatchNormOptions& options);

/// With a name, which without one follows from how many such layers `group` (a comm::Group or
/// comm::DeviceSum) has had before.
template <class Group>
BatchNormOptions named(BatchNormOptions options, Group& group) {
  if (options.name.empty()) {
    options.name = "batch_norm." + std::to_string(group.count_unnamed_layer());
  }
  return options;
}

/// What the ranks must have in common, each difference to be seen; in 96 bytes as a rule.
std::string to_text(const BatchNormOptions& options);

}  // namespace syncbn::bn
