// SPDX-License-Identifier: Apache-2.0
#include "app/doctor/shared_memory.hpp"

#include <cerrno>
#include <cstdlib>
#include <string>
#include <system_error>
#include <unistd.h>

#include <fmt/format.h>

#include "core/file_descriptor.hpp"

namespace syncbn::app::doctor {
namespace {

constexpr double mib = 1 << 20;
/// What Docker gives a container unless it is told otherwise. PyTorch's loaders of data and NCCL
/// soon need more.
constexpr double docker_default = 64 * mib;

/// Returns why no file can be made in `directory`, "" if one can.
std::string why_not_writable(const std::filesystem::path& directory) {
  std::string name = (directory / "syncbn-doctor-XXXXXX").string();
  const FileDescriptor file(::mkstemp(name.data()));
  if (!file) {
    return std::generic_category().message(errno);
  }
  ::unlink(name.c_str());
  return {};
}

Verdict verdict(const Members& members) {
  const SharedMemoryFacts& facts = members.facts.front().shared_memory;
  const auto ranks = static_cast<int>(members.ranks.size());
  if (!facts.problem.empty()) {
    return {Severity::error, fmt::format("no file can be made in /dev/shm ({})", facts.problem),
            "Mount it for all users: `mount -t tmpfs -o mode=1777 tmpfs /dev/shm`; a container "
            "without a read-only /dev/shm, with `--shm-size 1g`."};
  }
  const double needed = needed_in_shared_memory(members.facts.front().traits.mpi, ranks);
  const std::string seen = fmt::format(
      "/dev/shm has {:.0f} MiB, {:.0f} of them free; MPI may take {:.0f} for {} {}",
      facts.bytes / mib, facts.free / mib, needed / mib, ranks, ranks == 1 ? "rank" : "ranks");
  if (facts.bytes < needed) {
    return {Severity::error, seen, enlarge_shared_memory};
  }
  if (facts.free < needed) {
    return {Severity::warning, seen,
            "Remove what ended programs have left there (`ls -l /dev/shm`), or make it larger: "
            "`docker run --shm-size 1g`, `mount -o remount,size=1g /dev/shm`."};
  }
  if (facts.bytes <= docker_default) {
    return {Severity::warning,
            seen + "; PyTorch's DataLoader workers and NCCL put their data there, too",
            enlarge_shared_memory};
  }
  return {Severity::ok, seen, ""};
}

}  // namespace

double needed_in_shared_memory(std::string_view library, int ranks) {
  if (library.empty()) {
    return 0;
  }
  // Open MPI: btl_vader_segment_size, since version 5 btl_sm_segment_size. A rank alone takes none.
  if (library.starts_with("Open MPI")) {
    return ranks == 1 ? 0 : 4 * mib * ranks;
  }
  // MPICH 4.0.2 with UCX was seen to take 4.1 MiB a rank, also of one alone; others are taken to be
  // no worse.
  return 4.25 * mib * ranks;
}

SharedMemoryFacts read_shared_memory(const std::filesystem::path& root) {
  const std::filesystem::path directory = root / "dev/shm";
  SharedMemoryFacts facts;
  facts.problem = why_not_writable(directory);
  std::error_code error;
  const std::filesystem::space_info space = std::filesystem::space(directory, error);
  if (!error) {
    facts.bytes = static_cast<double>(space.capacity);
    facts.free = static_cast<double>(space.available);
  }
  return facts;
}

std::vector<Finding> find_about_shared_memory(const std::vector<Facts>& all) {
  return judge("shared-memory", by_host(all), verdict);
}

}  // namespace syncbn::app::doctor
