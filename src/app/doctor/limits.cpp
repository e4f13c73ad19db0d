// SPDX-License-Identifier: Apache-2.0
#include "app/doctor/limits.hpp"

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <string>
#include <system_error>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/resource.h>

namespace syncbn::app::doctor {
namespace {

namespace fs = std::filesystem;

constexpr double mib = 1 << 20;
constexpr double least_locked = 64 * mib;  ///< an adapter's queues alone take some of this

std::optional<double> limit_of(int resource) {
  rlimit limit{};
  getrlimit(static_cast<__rlimit_resource>(resource), &limit);
  return limit.rlim_cur == RLIM_INFINITY ? std::nullopt
                                         : std::optional(static_cast<double>(limit.rlim_cur));
}

std::vector<std::string> names_in(const fs::path& directory) {
  std::error_code error;
  std::vector<std::string> names;
  for (const fs::directory_entry& entry : fs::directory_iterator(directory, error)) {
    names.push_back(entry.path().filename().string());
  }
  std::ranges::sort(names);
  return names;
}

Verdict judge_locked_memory(const Members& members) {
  const LimitFacts& facts = members.facts.front().limits;
  const std::string limit =
      facts.locked_bytes ? fmt::format("{:.0f} KiB", *facts.locked_bytes / 1024) : "unlimited";
  if (facts.verbs.empty()) {
    return {Severity::ok, fmt::format("locked memory {}; no network device that needs it", limit),
            ""};
  }
  const std::string seen =
      fmt::format("locked memory {}; {} needs it", limit, fmt::join(facts.verbs, ", "));
  if (!facts.locked_bytes) {
    return {Severity::ok, seen, ""};
  }
  return {*facts.locked_bytes < least_locked ? Severity::error : Severity::warning, seen,
          "Set `ulimit -l unlimited` where ranks are started: memlock in "
          "/etc/security/limits.conf, LimitMEMLOCK=infinity of slurmd or sshd, `docker run "
          "--ulimit memlock=-1`."};
}

Verdict judge_open_files(const Members& members, int ranks) {
  const LimitFacts& facts = members.facts.front().limits;
  const double needed = needed_open_files(ranks);
  const std::string seen = fmt::format(
      "{} of {} files are open; of {} ranks each may need {:.0f}", facts.files_now,
      facts.open_files ? fmt::format("{:.0f}", *facts.open_files) : "any number of", ranks, needed);
  if (!facts.open_files || *facts.open_files >= needed) {
    return {Severity::ok, seen, ""};
  }
  return {Severity::error, seen,
          "Set `ulimit -n 65536` where ranks are started: nofile in /etc/security/limits.conf, "
          "LimitNOFILE of slurmd or sshd, `docker run --ulimit nofile=65536`."};
}

}  // namespace

double needed_open_files(int ranks) {
  return 32 + 2.0 * (ranks - 1);
}

LimitFacts read_limits(const fs::path& root) {
  return {.locked_bytes = limit_of(RLIMIT_MEMLOCK),
          .open_files = limit_of(RLIMIT_NOFILE),
          .files_now = static_cast<double>(names_in(root / "proc/self/fd").size()),
          .verbs = names_in(root / "sys/class/infiniband")};
}

std::vector<Finding> find_about_limits(const std::vector<Facts>& all) {
  const std::vector<Members> hosts = by_host(all);
  std::vector<Finding> findings = judge("locked-memory", hosts, judge_locked_memory);
  std::ranges::move(judge("open-files", hosts,
                          [&](const Members& members) {
                            return judge_open_files(members, static_cast<int>(all.size()));
                          }),
                    std::back_inserter(findings));
  return findings;
}

}  // namespace syncbn::app::doctor
