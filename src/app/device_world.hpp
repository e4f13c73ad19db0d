// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "syncbn/device_communicator.hpp"

#include "app/args.hpp"
#include "app/command.hpp"
#include "app/device_facts.hpp"

namespace syncbn::app {

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
