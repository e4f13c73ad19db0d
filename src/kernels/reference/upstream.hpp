// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "kernels/kernels.hpp"
#include "kernels/reference/elements.hpp"

namespace syncbn::kernels::reference {

/// Holds what a backward kernel needs to know of an element.
struct Element {
  double centered;  ///< x - mean
  double dz;
};

/// Computes this for the element with index i in memory, which belongs to channel c.
template <class T>
Element upstream_element(const Upstream& upstream, std::int64_t c, std::int64_t i) {
  const double data = load<T>(upstream.data.data(), i);
  const double dy = load<T>(upstream.dy, i);
  const double slope = upstream.negative_slope;
  double centered = data - upstream.mean[c];
  double side = centered * upstream.scale[c] + upstream.shift[c];
  if (upstream.source == Source::output) {
    side = data;
    const double z = data <= 0 ? data / slope : data;
    centered = upstream.scale[c] == 0 ? 0 : (z - upstream.shift[c]) / upstream.scale[c];
  } else if (upstream.y != nullptr) {
    side = load<T>(upstream.y, i);
  }
  return {centered, slope != 1 && side <= 0 ? lower_side(dy, slope) : dy};
}

}  // namespace syncbn::kernels::reference
