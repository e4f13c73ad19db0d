// SPDX-License-Identifier: Apache-2.0
#include "app/bench/layer_times.hpp"

#include <algorithm>

namespace syncbn::app::bench {

double LayerTimes::bandwidth(Phase phase, DType dtype) const {
  const double bytes =
      static_cast<double>(layer.shape.size()) * static_cast<double>(size_of(dtype));
  return passes(phase) * bytes / phases.at(phase).median / 1e9;
}

double LayerTimes::copy_bandwidth(DType dtype) const {
  const double copied = bandwidth(Phase::copy, dtype);
  return phases.contains(Phase::streaming_copy)
             ? std::max(copied, bandwidth(Phase::streaming_copy, dtype))
             : copied;
}

double LayerTimes::read_bandwidth(DType dtype) const {
  return phases.contains(Phase::read) ? bandwidth(Phase::read, dtype) : copy_bandwidth(dtype);
}

}  // namespace syncbn::app::bench
