// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>

#include "syncbn/device_communicator.hpp"

#include "app/args.hpp"
#include "app/command.hpp"

namespace syncbn::app {

struct DeviceFacts {
  std::string name;             ///< of all ranks' devices: "NVIDIA H100 80GB HBM3"
  std::string runtime;          ///< CUDA's, that this program uses: "13.0"
  std::string driver;           ///< the newest CUDA that it knows
  std::size_t cache_bytes = 0;  ///< of this rank's L2
};

/// The ranks, each with its current CUDA device.
struct DeviceWorld {
  DeviceCommunicator all;
  DeviceCommunicator own;  ///< this rank by itself
  std::string exchange;    ///< of `all`: "NCCL 2.28.9"
  DeviceFacts device;
};

/// Collective. Makes a device current on each rank, those of a host taking its devices in turn.
/// They sum over NCCL if they can, and the exchange's options do not say otherwise; else through
/// the host. Throws UsageError on every rank if one has no device, or what the options ask for
/// cannot be had.
DeviceWorld open_devices(const World& world, const ExchangeOptions& exchange);

/// "2 x NVIDIA H100 80GB HBM3" that this process can use, or why there is none.
std::string describe_own_devices();

}  // namespace syncbn::app
