// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "core/internal_api.hpp"

namespace syncbn::comm {

/// Returns a text that is the same in all processes and containers of this host until it is booted
/// again, and differs from host to host: the kernel's boot id, or without one the host's name.
SYNCBN_INTERNAL_API std::string this_host();

}  // namespace syncbn::comm
