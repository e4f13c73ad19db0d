// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "syncbn/communicator.hpp"

#include "app/bench/layer_times.hpp"

namespace syncbn::app::bench {

/// Collective. Times one layer on the host, by `repeat`.
LayerTimes time_layer(const LayerShape& layer, const BenchOptions& options,
                      const Communicator& world);

}  // namespace syncbn::app::bench
