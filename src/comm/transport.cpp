// SPDX-License-Identifier: Apache-2.0
#include "comm/transport.hpp"

#include <algorithm>
#include <sstream>

#include "syncbn/error.hpp"

namespace syncbn::comm {

std::chrono::milliseconds validated(std::chrono::milliseconds timeout) {
  if (timeout <= std::chrono::milliseconds::zero()) {
    throw InvalidArgument("a timeout of " + in_seconds(timeout) + " (it must be above 0)");
  }
  return std::min<std::chrono::milliseconds>(timeout, std::chrono::days(365));
}

std::string in_seconds(std::chrono::milliseconds time) {
  std::ostringstream text;
  text << std::chrono::duration<double>(time).count() << " s";
  return text.str();
}

}  // namespace syncbn::comm
