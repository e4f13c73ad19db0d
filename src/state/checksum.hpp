// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "syncbn/state.hpp"

namespace syncbn {

/// Names the entry of a file's metadata that holds its checksum.
constexpr const char* checksum_key = "syncbn.checksum";

/// Returns 16 hexadecimal digits that follow from all that `state` holds: names, types, shapes and
/// bytes of its tensors and its metadata, but for checksum_key. A flipped bit always changes them,
/// other damage in all but one of 2^64 cases. Costs one read of the state.
std::string checksum_of(const StateDict& state);

}  // namespace syncbn
