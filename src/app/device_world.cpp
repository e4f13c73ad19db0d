// SPDX-License-Identifier: Apache-2.0
#include "app/device_world.hpp"

#include <algorithm>
#include <array>
#include <iterator>
#include <map>
#include <set>
#include <vector>

#include <fmt/format.h>

#include "syncbn/error.hpp"

#include "app/build_options.hpp"
#include "app/hosts.hpp"
#include "comm/nccl/device_sharing.hpp"
#include "cuda/device.hpp"
#include "trainer/agreement.hpp"

namespace syncbn::app {
namespace {

/// Throws UsageError if this build has no devices of that kind.
void require_build_for(DeviceKind wanted) {
  if (wanted == DeviceKind::emulated && !with_cuda_emulated) {
    throw UsageError(
        fmt::format("--device emulated cannot be had (this build has {}). Configure with "
                    "-DSYNCBN_CUDA=EMULATED, or give --device {}.",
                    with_cuda ? "CUDA" : "no emulated device", with_cuda ? "cuda" : "cpu"));
  }
  if (wanted == DeviceKind::cuda && !with_cuda) {
    throw UsageError(fmt::format(
        "--device cuda cannot be had (this build {}). Configure with -DSYNCBN_CUDA=ON, or give "
        "--device {}.",
        with_cuda_emulated ? "emulates its device" : "has no CUDA",
        with_cuda_emulated ? "emulated" : "cpu"));
  }
}

/// Collective. Throws UsageError on every rank if one has no device.
void require_device_everywhere(const Communicator& ranks, int devices) {
  const std::array<double, 1> mine = {static_cast<double>(devices)};
  const std::vector<double> all = ranks.all_gather(mine);
  std::vector<int> without;
  for (int rank = 0; rank < ranks.size(); ++rank) {
    if (all[static_cast<std::size_t>(rank)] == 0) {
      without.push_back(rank);
    }
  }
  if (!without.empty()) {
    throw UsageError(fmt::format(
        "--device cuda cannot be had ({} {} of {} found no CUDA device, or no driver for CUDA {}). "
        "nvidia-smi shows what a host has. Run where every rank finds one, or give --device cpu.",
        without.size() == 1 ? "rank" : "ranks", ranges_text(without), ranks.size(), cuda_version));
  }
}

/// Collective. Returns how many of the host's ranks come before this one.
int place_on_host(const Communicator& world) {
  for (const auto& [host, ranks] : ranks_by_host(world)) {
    const auto own = std::ranges::find(ranks, world.rank());
    if (own != ranks.end()) {
      return static_cast<int>(own - ranks.begin());
    }
  }
  return 0;
}

struct Sums {
  DeviceCommunicator over_all;
  std::string text;
  bool capturable;
};

/// Collective. Makes the group that sums over the ranks' devices.
Sums make_sums(const World& world, const ExchangeOptions& exchange) {
  std::string why_not_nccl;
  if (exchange.summation.value_or(Summation::nccl) == Summation::nccl) {
    try {
      return {DeviceCommunicator::nccl(world.communicator, exchange.deadlines),
              fmt::format("NCCL {}", comm::nccl::version()), true};
    } catch (const NotConfigured& error) {  // both errors come on all ranks
      why_not_nccl = error.what();
    } catch (const InvalidArgument& error) {
      why_not_nccl = error.what();
    }
    if (exchange.summation) {
      throw UsageError(fmt::format("--exchange nccl cannot be had: {}", why_not_nccl));
    }
  }
  return {DeviceCommunicator::staged(world.communicator, exchange.deadlines),
          fmt::format("staged through the host, {}", world.transport), false};
}

/// Collective. Returns the different names among the ranks' devices: "NVIDIA A100-SXM4-80GB, NVIDIA
/// H100 80GB HBM3".
std::string names_of_all(const Communicator& world, const std::string& own) {
  const std::vector<std::string> names = trainer::gather_texts(world, own);
  return fmt::format("{}", fmt::join(std::set<std::string>(names.begin(), names.end()), ", "));
}

}  // namespace

DeviceWorld open_devices(const World& world, DeviceKind wanted, const ExchangeOptions& exchange) {
  require_build_for(wanted);
  const int devices = cuda::device_count();
  require_device_everywhere(world.communicator, devices);
  const int device = place_on_host(world.communicator) % devices;
  cuda::choose_device(device);
  const cuda::DeviceProperties properties = cuda::properties_of(device);
  Sums sums = make_sums(world, exchange);
  return {.all = std::move(sums.over_all),
          .own = DeviceCommunicator::self(),
          .exchange = std::move(sums.text),
          .capturable = sums.capturable,
          .device = {.name = names_of_all(world.communicator, properties.name),
                     .runtime = cuda::runtime_version(),
                     .driver = cuda::driver_version(),
                     .cache_bytes = properties.cache_bytes}};
}

namespace {

/// Says why the runtime finds no device.
std::string why_no_device() {
  const std::string driver = cuda::driver_version();
  if (driver == cuda::no_driver) {
    return "no driver";
  }
  return fmt::format("driver for CUDA {}, build for {}", driver, cuda::runtime_version());
}

}  // namespace

std::string describe_own_devices() {
  if (!with_cuda && !with_cuda_emulated) {
    return "none (this build has no CUDA)";
  }
  std::map<std::string, int> counts;
  try {
    for (int device = 0; device < cuda::device_count(); ++device) {
      ++counts[cuda::properties_of(device).name];
    }
  } catch (const DeviceError& error) {
    return error.what();
  }
  std::vector<std::string> texts;
  for (const auto& [name, count] : counts) {
    texts.push_back(fmt::format("{} x {}", count, name));
  }
  return texts.empty() ? fmt::format("none ({})", why_no_device())
                       : fmt::format("{}", fmt::join(texts, ", "));
}

}  // namespace syncbn::app
