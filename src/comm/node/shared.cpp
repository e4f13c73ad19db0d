// SPDX-License-Identifier: Apache-2.0
#include "comm/node/shared.hpp"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <fstream>
#include <string>
#include <unistd.h>

#include <sys/stat.h>

#include "core/utf8.hpp"

namespace syncbn::comm::node {
namespace {

// Returns the number of this process's PID namespace, which containers need not share although they
// share memory; 0 if unknown.
std::uint64_t own_process_space() {
  struct stat found {};
  return stat("/proc/self/ns/pid", &found) == 0 ? found.st_ino : 0;
}

// Returns a process's state by /proc: 'R', 'S', 'T' (stopped), 'Z' (ended, not yet waited for),
// ...; ' ' if there is none.
char process_state(std::int64_t process) {
  std::ifstream file("/proc/" + std::to_string(process) + "/stat");
  std::string text;
  std::getline(file, text);
  const std::size_t name_end = text.rfind(") ");
  return name_end == std::string::npos ? ' ' : text[name_end + 2];
}

}  // namespace

void introduce(Area& own) {
  own.process = getpid();
  own.process_space = own_process_space();
  CPU_ZERO(&own.processors);
  sched_getaffinity(0, sizeof own.processors, &own.processors);
}

bool crowded(std::span<Area* const> areas) {
  cpu_set_t all;
  CPU_ZERO(&all);
  for (const Area* area : areas) {
    CPU_OR(&all, &all, &area->processors);
  }
  return static_cast<std::size_t>(CPU_COUNT(&all)) < areas.size();
}

void write_text(std::span<char> to, std::string_view text) {
  const std::string_view part = cut_to(text, to.size() - 1);
  *std::ranges::copy(part, to.begin()).out = 0;
}

Health health(const Area& area) {
  if (area.process == getpid() || area.process_space == 0 ||
      area.process_space != own_process_space()) {
    return {};
  }
  if (kill(static_cast<pid_t>(area.process), 0) != 0 && errno == ESRCH) {
    return {"has ended", true};
  }
  switch (process_state(area.process)) {
    case 'Z':
    case 'X':
      return {"has ended", true};
    case 'T':
    case 't':
      return {"is stopped", false};
    default:
      return {"is alive", false};
  }
}

}  // namespace syncbn::comm::node
