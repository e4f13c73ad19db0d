// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "syncbn/state.hpp"

namespace syncbn::trainer {

/// Returns `values` as a tensor of that shape.
StateTensor floats(const std::vector<float>& values, const std::vector<std::int64_t>& shape);

/// Returns the values of a tensor. Throws FileError if it is missing or of another shape, or if one
/// is not finite or beyond the range of float.
std::vector<float> read_floats(const StateDict& state, const std::string& name,
                               const std::vector<std::int64_t>& shape);

}  // namespace syncbn::trainer
