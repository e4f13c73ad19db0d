// SPDX-License-Identifier: Apache-2.0
#include "app/shared_memory_warning.hpp"

#include <cmath>
#include <system_error>

#include <fmt/format.h>

#include "app/doctor/shared_memory.hpp"

namespace syncbn::app {

std::optional<std::string> shared_memory_warning(const std::filesystem::path& root,
                                                 const Environment& environment,
                                                 std::string_view library) {
  const std::optional<RanksOfHost> ranks = ranks_of_this_host(environment);
  if (!ranks || !ranks->first) {
    return std::nullopt;
  }
  std::error_code error;
  const std::filesystem::space_info space = std::filesystem::space(root / "dev/shm", error);
  const double needed = doctor::needed_in_shared_memory(library, ranks->count);
  const auto available = static_cast<double>(space.available);
  if (error || available >= needed) {
    return std::nullopt;
  }
  constexpr double mib = 1 << 20;
  return fmt::format(
      "/dev/shm has {:.0f} MiB free (of {:.0f}; MPI may take {:.0f} for the {} {} here), so MPI "
      "may not start, or end with SIGBUS later. {}",
      available / mib, static_cast<double>(space.capacity) / mib, std::ceil(needed / mib),
      ranks->count, ranks->count == 1 ? "rank" : "ranks", doctor::enlarge_shared_memory);
}

}  // namespace syncbn::app
