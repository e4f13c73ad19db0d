// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "syncbn/dtype.hpp"
#include "syncbn/tensor_view.hpp"

#include "app/args.hpp"

namespace syncbn::app {

inline constexpr Word<DType> dtype_words[] = {
    {"f32", DType::f32}, {"f64", DType::f64}, {"f16", DType::f16}, {"bf16", DType::bf16}};

inline constexpr Word<Layout> layout_words[] = {{"channels_first", Layout::channels_first},
                                                {"channels_last", Layout::channels_last}};

}  // namespace syncbn::app
