// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>

#include "syncbn/device_communicator.hpp"

namespace syncbn::test {

/// Keeps the stream from going on until `open`, which is on the host, is true.
void hold_until(std::atomic<bool>& open, CudaStream stream);

}  // namespace syncbn::test
