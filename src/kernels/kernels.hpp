// SPDX-License-Identifier: Apache-2.0
#pragma once

// What each kernel computes. The arguments have been validated: shapes and types agree, data is
// there. Sums over the elements of channel c run over all samples and positions.
//
// Every backend gives a result that does not depend on the number of threads: work is cut into
// blocks by the shape alone, and the blocks' partial sums are added in a fixed order. It may depend
// on the instruction set, within rounding.

#include "syncbn/backend.hpp"
#include "syncbn/tensor_view.hpp"

namespace syncbn::kernels {

/// sum[c] = sum(x - pivot[c]), sum_sq[c] = sum((x - pivot[c])^2), with differences, squares and
/// sums in double.
struct ForwardSums {
  ConstTensorView x;
  const float* pivot;  ///< [C]
  double* sum;         ///< [C] written
  double* sum_sq;      ///< [C] written
};

/// z = (x - mean[c]) * scale[c] + shift[c] [+ residual],  y = relu ? max(z, 0) : z.
///
/// f32, f16 and bf16 compute in float with the mean as a pair mean_hi + mean_lo of floats, so that
/// ((x - mean_hi) - mean_lo) loses nothing to a mean far larger than the spread; f64 in double.
/// A NaN stays one through relu.
struct Normalize {
  ConstTensorView x;
  const double* mean;    ///< [C]
  const double* scale;   ///< [C] gamma * invstd
  const double* shift;   ///< [C] beta
  const void* residual;  ///< null, or of x's shape, type and layout
  bool relu;
  void* y;  ///< of x's shape, type and layout; may be x or residual
};

/// The gradient behind the activation: dz = dy where relu let the value pass, 0 elsewhere; dy
/// without relu. With y given, "passed" is !(y <= 0), else it is !(z <= 0) with z recomputed from x
/// by the very arithmetic of Normalize.
struct Upstream {
  ConstTensorView x;
  const void* dy;       ///< of x's shape, type and layout
  const void* y;        ///< null, or of x's shape, type and layout; read only with relu
  const double* mean;   ///< [C]
  const double* scale;  ///< [C]
  const double* shift;  ///< [C]
  bool relu;
};

/// sum_dz[c] = sum(dz), sum_dz_x[c] = sum(dz * (x - mean[c])), products and sums in double.
struct BackwardSums {
  Upstream upstream;
  double* sum_dz;    ///< [C] written
  double* sum_dz_x;  ///< [C] written
};

/// dx = scale[c] * ((dz - mean_dz[c]) - (x - mean[c]) * slope[c]),  dresidual = dz.
struct InputGradient {
  Upstream upstream;
  const double* mean_dz;  ///< [C] sum_dz / n of the group
  const double* slope;    ///< [C] sum_dz_x / n * invstd^2 of the group
  void* dx;               ///< of x's shape, type and layout; may be dy
  void* dresidual;        ///< null, or of x's shape, type and layout; may be dy (then dx may not)
};

/// One backend.
struct Kernels {
  void (*forward_sums)(const ForwardSums&);
  void (*normalize)(const Normalize&);
  void (*backward_sums)(const BackwardSums&);
  void (*input_gradient)(const InputGradient&);
};

/// The device switch: the only place that looks at a Backend.
const Kernels& select(Backend backend);

}  // namespace syncbn::kernels
