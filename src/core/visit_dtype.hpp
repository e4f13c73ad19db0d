// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <utility>

#include "syncbn/dtype.hpp"

#include "core/float16.hpp"

namespace syncbn {

/// Calls `body.template operator()<T>()` with the element type of `dtype`: float, double, Float16
/// or BFloat16. No other code of the library turns a DType into a type.
template <class Body>
decltype(auto) visit_dtype(DType dtype, Body&& body) {
  switch (dtype) {
    case DType::f64:
      return std::forward<Body>(body).template operator()<double>();
    case DType::f16:
      return std::forward<Body>(body).template operator()<Float16>();
    case DType::bf16:
      return std::forward<Body>(body).template operator()<BFloat16>();
    case DType::f32:
      break;
  }
  return std::forward<Body>(body).template operator()<float>();
}

}  // namespace syncbn
