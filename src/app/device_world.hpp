// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "syncbn/device_communicator.hpp"

#include "app/args.hpp"
#include "app/command.hpp"
#include "app/device_facts.hpp"

namespace syncbn::app {

/// A DeviceWorld holds the ranks, each with its current CUDA device.
struct DeviceWorld {
  DeviceCommunicator all;
  DeviceCommunicator own;  ///< this rank by itself
  std::string exchange;    ///< what sums over `all`: "NCCL 2.28.9"
  bool capturable;         ///< whether a CUDA graph can hold these sums
  DeviceFacts device;
};

/// Collective. Makes a device of the kind `wanted`, not cpu, current on each rank; the ranks of a
/// host take its devices in turn. They sum with NCCL if they can and the options do not say
/// otherwise, else through the host. Throws UsageError on every rank if one has no such device, or
/// if the options ask for NCCL and it cannot be used.
DeviceWorld open_devices(const World& world, DeviceKind wanted, const ExchangeOptions& exchange);

/// Names the devices that this process can use, "2 x NVIDIA H100 80GB HBM3", or says why there is
/// none.
std::string describe_own_devices();

}  // namespace syncbn::app
