// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "syncbn/communicator.hpp"

#include "app/bench/layer_times.hpp"
#include "app/device_world.hpp"

namespace syncbn::app::bench {

/// How often a phase is put on the stream to be timed once: so what the launch of the first takes
/// counts little, and that of all others only where it holds the device up.
inline constexpr int laps = 10;

/// Collective. Times one layer on the ranks' devices, by `repeat` and their own clocks. The only
/// rival is Rival::local.
LayerTimes time_layer_on_device(const LayerShape& layer, const BenchOptions& options,
                                const Communicator& world, const DeviceWorld& devices);

}  // namespace syncbn::app::bench
