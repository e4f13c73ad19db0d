// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "kernels/kernels.hpp"
#include "kernels/reference/elements.hpp"

namespace syncbn::kernels::reference {

/// dz of element i, which belongs to channel c.
template <class T>
double upstream_gradient(const Upstream& upstream, std::int64_t c, std::int64_t i) {
  const double dy = load<T>(upstream.dy, i);
  if (!upstream.relu) {
    return dy;
  }
  const double x = load<T>(upstream.x.data(), i);
  const double z = upstream.y != nullptr
                       ? load<T>(upstream.y, i)
                       : (x - upstream.mean[c]) * upstream.scale[c] + upstream.shift[c];
  return z <= 0 ? 0 : dy;
}

}  // namespace syncbn::kernels::reference
