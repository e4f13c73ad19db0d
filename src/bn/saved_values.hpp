// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "syncbn/state.hpp"

namespace syncbn::bn {

/// Returns `values` as the tensor that is saved under `name`. Throws FileError if one is not
/// finite: the file of a layer that has diverged could not be loaded, and must not replace one that
/// can be.
StateTensor saved_values(const std::string& name, const std::vector<double>& values);

}  // namespace syncbn::bn
