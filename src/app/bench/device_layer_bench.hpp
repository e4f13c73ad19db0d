// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "syncbn/communicator.hpp"

#include "app/bench/layer_times.hpp"
#include "app/device_world.hpp"

namespace syncbn::app::bench {

/// A phase is put on the stream this many times for one measurement. The device is kept busy while
/// the host does so, so that the host's time counts only if it exceeds the device's.
inline constexpr int laps = 10;

/// Collective. Times one layer on the ranks' devices, by `repeat` and the devices' clocks. Rivals
/// can be Rival::local and Rival::exact.
LayerTimes time_layer_on_device(const LayerShape& layer, const BenchOptions& options,
                                const Communicator& world, const DeviceWorld& devices);

}  // namespace syncbn::app::bench
