// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "syncbn/communicator.hpp"

#include "app/bench/layer_times.hpp"
#include "app/bench/place.hpp"

namespace syncbn::app::bench {

/// Collective. Times one layer at a place, by `repeat`. Rival::onednn can only be on the host.
LayerTimes time_layer(const LayerShape& layer, const BenchOptions& options,
                      const Communicator& world, Place& place);

}  // namespace syncbn::app::bench
