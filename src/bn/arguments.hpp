// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>

#include "syncbn/batch_norm.hpp"

#include "bn/operations.hpp"
#include "channels/finalize.hpp"
#include "kernels/kernels.hpp"

namespace syncbn::bn {

/// These are the arguments of a forward or an infer.
struct ForwardArguments {
  ConstTensorView x;
  std::optional<ConstTensorView> residual = std::nullopt;
  TensorView y;
  PositionWeights position_weights = {};
  CudaStream stream = nullptr;
  bool in_place = false;

  Given given() const { return in_place ? Given::in_place : residual ? Given::residual : Given::x; }
};

/// These are the arguments of a backward.
struct BackwardArguments {
  ConstTensorView x;  ///< in place the forward's output
  ConstTensorView dy;
  TensorView dx;
  std::optional<ConstTensorView> y = std::nullopt;
  std::optional<TensorView> dresidual = std::nullopt;
  PositionWeights position_weights = {};
  CudaStream stream = nullptr;
  bool in_place = false;
};

/// Returns null for no weights.
inline const float* data_or_null(PositionWeights position_weights) {
  return position_weights.empty() ? nullptr : position_weights.data();
}

/// Coefficients are what elements are computed with, [C] each.
struct Coefficients {
  const double* mean;
  const double* scale;  ///< gamma * invstd
  const double* shift;  ///< beta
};
inline Coefficients coefficients_of(const channels::StatisticsArrays& statistics) {
  return {statistics.mean, statistics.scale, statistics.shift};
}

/// Returns what kernels of a backward need to know of its tensors and of the forward's statistics.
inline kernels::Upstream upstream_of(const BackwardArguments& arguments,
                                     const Coefficients& coefficients, Activation activation) {
  return {.data = arguments.x,
          .source = arguments.in_place ? kernels::Source::output : kernels::Source::input,
          .weight = data_or_null(arguments.position_weights),
          .dy = arguments.dy.data(),
          .y = arguments.y ? arguments.y->data() : nullptr,
          .mean = coefficients.mean,
          .scale = coefficients.scale,
          .shift = coefficients.shift,
          .negative_slope = activation.negative_slope};
}

}  // namespace syncbn::bn
