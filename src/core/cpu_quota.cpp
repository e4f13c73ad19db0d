// SPDX-License-Identifier: Apache-2.0
//
// /proc/self/cgroup has a line for each hierarchy that this process is in,
// "NUMBER:CONTROLLERS:PATH" (cgroups(7)). In version 2 there are no controllers, and the file
// cpu.max of a group has the microseconds that it may run in each period, or "max", and the period.
// In version 1 those are in cpu.cfs_quota_us, -1 for no limit, and cpu.cfs_period_us. In a
// container the path may be the one outside; then only the group that is mounted as the root is
// found.
#include "core/cpu_quota.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

namespace syncbn {
namespace {

namespace fs = std::filesystem;

std::string first_line(const fs::path& file) {
  std::string line;
  std::getline(std::ifstream(file), line);
  return line;
}

/// Returns the number, or none for "max", for -1 and for anything else that is no number above 0.
std::optional<double> microseconds(std::string_view text) {
  long value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && value > 0 ? std::optional<double>(value) : std::nullopt;
}

std::optional<double> ratio(std::string_view time, std::string_view period) {
  const std::optional<double> numerator = microseconds(time);
  const std::optional<double> denominator = microseconds(period);
  return numerator && denominator ? std::optional(*numerator / *denominator) : std::nullopt;
}

std::optional<double> quota_of_2(const fs::path& group) {
  const std::string line = first_line(group / "cpu.max");
  const std::size_t blank = std::min(line.find(' '), line.size());
  return ratio(std::string_view(line).substr(0, blank),
               std::string_view(line).substr(std::min(blank + 1, line.size())));
}

std::optional<double> quota_of_1(const fs::path& group) {
  return ratio(first_line(group / "cpu.cfs_quota_us"), first_line(group / "cpu.cfs_period_us"));
}

/// Returns the least quota of a group, given as a path below `mount`, and its ancestors.
template <class QuotaOf>
std::optional<double> least_quota(const fs::path& mount, const fs::path& group,
                                  const QuotaOf& quota_of) {
  std::optional<double> least;
  for (fs::path below = group.relative_path();; below = below.parent_path()) {
    if (const auto quota = quota_of(mount / below)) {
      least = std::min(*quota, least.value_or(*quota));
    }
    if (below.empty()) {
      return least;
    }
  }
}

bool has_cpu(std::string_view controllers) {
  while (!controllers.empty()) {
    const std::size_t comma = std::min(controllers.find(','), controllers.size());
    if (controllers.substr(0, comma) == "cpu") {
      return true;
    }
    controllers.remove_prefix(std::min(comma + 1, controllers.size()));
  }
  return false;
}

/// Returns where a hierarchy may be mounted: version 2, which has no controllers, alone or beside
/// version 1.
std::vector<fs::path> mounts_of(std::string_view controllers, const fs::path& root) {
  const fs::path all = root / "sys/fs/cgroup";
  if (controllers.empty()) {
    return {all, all / "unified"};
  }
  return {all / controllers, all / "cpu"};
}

}  // namespace

std::optional<double> cpu_quota(const fs::path& root) {
  std::optional<double> least;
  std::ifstream groups(root / "proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    const std::size_t first = line.find(':');
    const std::size_t second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) {
      continue;
    }
    const std::string controllers = line.substr(first + 1, second - first - 1);
    if (!controllers.empty() && !has_cpu(controllers)) {
      continue;
    }
    for (const fs::path& mount : mounts_of(controllers, root)) {
      const fs::path group = line.substr(second + 1);
      const std::optional<double> quota = controllers.empty()
                                              ? least_quota(mount, group, quota_of_2)
                                              : least_quota(mount, group, quota_of_1);
      if (quota) {
        least = std::min(*quota, least.value_or(*quota));
      }
    }
  }
  return least;
}

int threads_within(const std::optional<double>& quota, int processors, int processes) {
  if (!quota) {
    return processors;
  }
  const double share = std::ceil(*quota / processes);
  return share < processors ? std::max(1, static_cast<int>(share)) : processors;
}

}  // namespace syncbn
