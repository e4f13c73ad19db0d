// SPDX-License-Identifier: Apache-2.0
#include "syncbn/version.hpp"

#define SYNCBN_TEXT_OF(number) #number
#define SYNCBN_DOTTED(major, minor, patch) \
  SYNCBN_TEXT_OF(major) "." SYNCBN_TEXT_OF(minor) "." SYNCBN_TEXT_OF(patch)

namespace syncbn {

std::string_view version() {
  return SYNCBN_DOTTED(SYNCBN_VERSION_MAJOR, SYNCBN_VERSION_MINOR, SYNCBN_VERSION_PATCH);
}

}  // namespace syncbn
