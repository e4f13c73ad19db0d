// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "syncbn/state.hpp"

#include "bn/place.hpp"
#include "channels/floats.hpp"

namespace syncbn::bn {

/// Returns `values` as the tensor that is saved under `name`. Throws FileError if one is not
/// finite: the file of a layer that has diverged could not be loaded, and must not replace one that
/// can be.
StateTensor saved_values(const std::string& name, const std::vector<double>& values);

/// Returns the values of an array [C] of the place, and waits for the stream.
std::vector<double> download(const channels::Floats& array, std::int64_t channels,
                             const Place& place, CudaStream stream);
/// Writes the values, rounded to the array's type, unless there are none. The array may be read
/// when the stream has come so far.
void upload(const std::vector<double>& values, const channels::Floats& array, const Place& place,
            CudaStream stream);

}  // namespace syncbn::bn
