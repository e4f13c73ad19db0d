// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "syncbn/tensor_view.hpp"

#include "core/float16.hpp"

namespace syncbn::kernels::reference {

/// Calls body(i, w) for every element of channel c whose weight w is not 0, and absent(i) for the
/// others; i is the element's index in memory. Without weights w = 1.
template <class Body, class Absent>
void for_each_element(const ConstTensorView& x, const float* weight, std::int64_t c, Body body,
                      Absent absent) {
  const Shape& shape = x.shape();
  for (std::int64_t n = 0; n < shape.n; ++n) {
    for (std::int64_t s = 0; s < shape.s; ++s) {
      const std::int64_t i = x.layout() == Layout::channels_first ? (n * shape.c + c) * shape.s + s
                                                                  : (n * shape.s + s) * shape.c + c;
      const double w = weight == nullptr ? 1 : static_cast<double>(weight[n * shape.s + s]);
      if (w != 0) {
        body(i, w);
      } else {
        absent(i);
      }
    }
  }
}

/// Returns v * slope, which is what the activation does on its lower side to a value, or to the
/// gradient dy of one; exactly 0 with a slope of 0.
inline double lower_side(double v, double slope) {
  return slope == 0 ? 0 : v * slope;
}

template <class T>
double load(const void* data, std::int64_t i) {
  return to_double(static_cast<const T*>(data)[i]);
}

template <class T>
void store(void* data, std::int64_t i, double value) {
  static_cast<T*>(data)[i] = from_double<T>(value);
}

}  // namespace syncbn::kernels::reference
