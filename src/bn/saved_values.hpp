// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "syncbn/state.hpp"

namespace syncbn::bn {

/// `values` as the tensor that is saved under `name`. Throws FileError if one is not finite: a
/// layer that has diverged must not replace a file that can be loaded, and its own could not be.
StateTensor saved_values(const std::string& name, const std::vector<double>& values);

}  // namespace syncbn::bn
