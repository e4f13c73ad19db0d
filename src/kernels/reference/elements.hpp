// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "syncbn/tensor_view.hpp"

#include "core/float16.hpp"

namespace syncbn::kernels::reference {

/// Calls body(i) for every element of channel c, i being its index in memory.
template <class Body>
void for_each_element(const ConstTensorView& x, std::int64_t c, Body body) {
  const Shape& shape = x.shape();
  for (std::int64_t n = 0; n < shape.n; ++n) {
    for (std::int64_t s = 0; s < shape.s; ++s) {
      body(x.layout() == Layout::channels_first ? (n * shape.c + c) * shape.s + s
                                                : (n * shape.s + s) * shape.c + c);
    }
  }
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
