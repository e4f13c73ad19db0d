// SPDX-License-Identifier: Apache-2.0
#include <fstream>
#include <string_view>

#include "app/threads.hpp"

namespace syncbn::app {

std::string processor_list(const std::filesystem::path& root) {
  constexpr std::string_view key = "Cpus_allowed_list:\t";
  std::ifstream status(root / "proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with(key)) {
      return line.substr(key.size());
    }
  }
  return {};
}

}  // namespace syncbn::app
