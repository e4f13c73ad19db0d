// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>

#include "syncbn/device.hpp"

namespace syncbn::bn {

/// Returns memory of so many bytes on the device: of the caller's function unless that is empty,
/// else of the library's. On a CUDA device the current one allocates. Throws InvalidArgument if the
/// function gives null, or memory that is not aligned.
std::shared_ptr<void> allocate_on(Device device, std::size_t bytes, const Allocate& allocate);

}  // namespace syncbn::bn
