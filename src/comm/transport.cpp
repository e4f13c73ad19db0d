// SPDX-License-Identifier: Apache-2.0
#include "comm/transport.hpp"

#include <sstream>

namespace syncbn::comm {

std::string in_seconds(std::chrono::milliseconds time) {
  std::ostringstream text;
  text << std::chrono::duration<double>(time).count() << " s";
  return text.str();
}

}  // namespace syncbn::comm
