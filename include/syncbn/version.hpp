// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

#include "syncbn/c/version.h"  // SYNCBN_VERSION and its parts: the version of these headers
#include "syncbn/export.h"

namespace syncbn {

/// Returns the version of the library that is linked, as "major.minor.patch".
SYNCBN_API std::string_view version();

}  // namespace syncbn
