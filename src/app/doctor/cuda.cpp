// SPDX-License-Identifier: Apache-2.0
#include "app/doctor/cuda.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <iterator>
#include <map>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "syncbn/error.hpp"

#include "app/build_options.hpp"
#include "app/hosts.hpp"
#include "comm/nccl/device_sharing.hpp"
#include "cuda/device.hpp"

namespace syncbn::app::doctor {
namespace {

/// Reads a version, "12.4", as numbers that compare as versions do.
std::pair<int, int> numbers_of(const std::string& version) {
  const std::size_t point = std::min(version.find('.'), version.size());
  const auto number = [](const std::string& text) { return std::atoi(text.c_str()); };
  return {number(version.substr(0, point)),
          number(version.substr(std::min(point + 1, version.size())))};
}

/// Returns what there is to say of builds that have no devices; no text where it has.
std::string why_nothing_to_say(const CudaFacts& facts) {
  if (facts.build == "emulated") {
    return "this build emulates its device";
  }
  return facts.build == "cuda" ? "" : "this build has no CUDA";
}

/// Judges by `verdict` where there is something to judge.
template <class Judge>
auto with_cuda_only(const Judge& verdict) {
  return [&verdict](const Members& members) {
    const std::string why = why_nothing_to_say(members.facts.front().cuda);
    return why.empty() ? verdict(members) : Verdict{Severity::unknown, why, ""};
  };
}

Verdict judge_driver(const Members& members) {
  const CudaFacts& facts = members.facts.front().cuda;
  if (facts.driver.empty()) {
    return {Severity::unknown, fmt::format("no driver (this build is for CUDA {})", facts.runtime),
            ""};
  }
  const std::string seen =
      fmt::format("driver for CUDA {}, build for {}", facts.driver, facts.runtime);
  // Within a major version newer runtimes run on older drivers.
  if (numbers_of(facts.driver).first >= numbers_of(facts.runtime).first) {
    return {Severity::ok, seen, ""};
  }
  return {Severity::error, seen,
          fmt::format("Update the driver (`nvidia-smi` shows what it is), or build with CUDA {} or "
                      "older: -DCMAKE_CUDA_COMPILER=/usr/local/cuda-{}/bin/nvcc.",
                      facts.driver, facts.driver)};
}

Verdict judge_device(const Members& members) {
  for (std::size_t i = 0; i < members.facts.size(); ++i) {
    const CudaFacts& facts = members.facts[i].cuda;
    if (!facts.devices.empty()) {
      continue;
    }
    const std::string reason = facts.problem.empty() ? "" : fmt::format(" ({})", facts.problem);
    return {Severity::warning,
            fmt::format("rank {} finds no device{}", members.ranks[i], reason),
            "See whether `nvidia-smi` lists devices on that host, whether CUDA_VISIBLE_DEVICES is "
            "empty, and whether the job asked for them: `srun --gpus-per-task=1`, `docker run "
            "--gpus all`. With --device cpu none is needed.",
            {members.ranks[i]}};
  }
  return {Severity::ok, "every rank finds a device", ""};
}

Verdict judge_sharing(const Members& members) {
  // The ranks of a host take the devices that they see in turn (open_devices).
  std::map<std::string, std::vector<int>> ranks_of;
  for (std::size_t i = 0; i < members.facts.size(); ++i) {
    const CudaFacts& facts = members.facts[i].cuda;
    if (!facts.devices.empty()) {
      ranks_of[facts.devices[i % facts.devices.size()]].push_back(members.ranks[i]);
    }
  }
  if (ranks_of.empty()) {
    return {Severity::unknown, "there are no devices", ""};
  }
  for (const auto& [device, ranks] : ranks_of) {
    if (ranks.size() > 1) {
      return {
          Severity::warning,
          fmt::format("ranks {} take the same device, {}, which NCCL refuses unless it is told "
                      "to allow it",
                      ranges_text(ranks), device),
          "Start as many ranks as the host has devices, or give each its own: `srun "
          "--gpus-per-task=1 --gpu-bind=single:1`, or CUDA_VISIBLE_DEVICES from the local rank.",
          ranks};
    }
  }
  return {Severity::ok, "each rank has a device of its own", ""};
}

Verdict judge_nccl(const Members& members) {
  for (const Facts& facts : members.facts) {
    if (!facts.cuda.with_nccl) {
      return {Severity::unknown, "this build has no NCCL", ""};
    }
    if (facts.cuda.nccl.empty()) {
      return {Severity::warning, facts.cuda.nccl_problem,
              "Install NCCL 2.19 or newer (libnccl2), or name its directory: `mpirun -x "
              "LD_LIBRARY_PATH=DIRECTORY`. Without it sums go through the host, which is slower."};
    }
  }
  return {Severity::ok, fmt::format("NCCL {}", members.facts.front().cuda.nccl), ""};
}

}  // namespace

CudaFacts read_cuda() {
  CudaFacts facts;
  facts.build = with_cuda_emulated ? "emulated" : with_cuda ? "cuda" : "none";
  if (facts.build != "cuda") {
    return facts;
  }
  try {
    facts.runtime = cuda::runtime_version();
    const std::string driver = cuda::driver_version();
    facts.driver = driver == cuda::no_driver ? "" : driver;
    for (int device = 0; device < cuda::device_count(); ++device) {
      facts.devices.push_back(cuda::bus_address(device));
    }
  } catch (const DeviceError& error) {
    facts.problem = error.what();
  }
  facts.with_nccl = with_nccl;
  if (with_nccl) {
    try {
      facts.nccl = comm::nccl::version();
    } catch (const NotConfigured& error) {
      facts.nccl_problem = error.what();
    }
  }
  return facts;
}

std::vector<Finding> find_about_cuda(const std::vector<Facts>& all) {
  const std::vector<Members> hosts = by_host(all);
  std::vector<Finding> findings;
  const auto add = [&](const char* name, Verdict (*verdict)(const Members&)) {
    std::ranges::move(judge(name, hosts, with_cuda_only(verdict)), std::back_inserter(findings));
  };
  add("cuda-driver", judge_driver);
  add("cuda-device", judge_device);
  add("shared-device", judge_sharing);
  add("nccl", judge_nccl);
  return findings;
}

}  // namespace syncbn::app::doctor
