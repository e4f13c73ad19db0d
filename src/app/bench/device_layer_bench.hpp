// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "syncbn/communicator.hpp"

#include "app/bench/layer_times.hpp"
#include "app/device_world.hpp"

namespace syncbn::app::bench {

/// How often a phase is put on the stream to be timed once. The device is kept busy meanwhile, so
/// that what the host takes to put it there counts only where it is more than the device takes.
inline constexpr int laps = 10;

/// Collective. Times one layer on the ranks' devices, by `repeat` and their own clocks. Rivals
/// are Rival::local and Rival::exact.
LayerTimes time_layer_on_device(const LayerShape& layer, const BenchOptions& options,
                                const Communicator& world, const DeviceWorld& devices);

}  // namespace syncbn::app::bench
