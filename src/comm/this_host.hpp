// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace syncbn::comm {

/// The same in all containers and processes of this host, for as long as it runs, and on no other.
std::string this_host();

}  // namespace syncbn::comm
