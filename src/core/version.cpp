// SPDX-License-Identifier: Apache-2.0
#include "syncbn/version.hpp"

namespace syncbn {

std::string_view version() {
  return SYNCBN_VERSION;
}

}  // namespace syncbn
