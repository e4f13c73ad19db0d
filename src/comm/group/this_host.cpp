// SPDX-License-Identifier: Apache-2.0
#include "comm/group/this_host.hpp"

#include <array>
#include <fstream>
#include <unistd.h>

namespace syncbn::comm {

std::string this_host() {
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string id;
  if (std::getline(file, id) && !id.empty()) {
    return id;
  }
  std::array<char, 256> name{};
  gethostname(name.data(), name.size() - 1);
  return name.data();
}

}  // namespace syncbn::comm
