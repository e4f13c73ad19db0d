// SPDX-License-Identifier: Apache-2.0
#pragma once

// These functions put the phases of syncbn/phases.hpp on a CUDA stream. Arguments have been
// validated, and pointers are to device memory.

#include <cstdint>
#include <optional>

#include "syncbn/phases.hpp"

#include "bn/arguments.hpp"
#include "bn/scratch.hpp"
#include "channels/finalize.hpp"
#include "kernels/cuda/cuda.hpp"

namespace syncbn::bn {

/// Says where a phase computes.
struct OnDevice {
  Device device;
  CudaStream stream;
  Scratch::Impl& scratch;
};

void forward_sums(const ConstTensorView& x, const double* pivot, double* sums,
                  PositionWeights position_weights, const OnDevice& on);

/// DeviceStatistics and parameters are what the coefficients of elements follow from.
struct DeviceStatistics {
  const double* mean;
  const double* invstd;
  channels::ConstFloats gamma;
  channels::ConstFloats beta;
};

void normalize(const ForwardArguments& arguments, const DeviceStatistics& statistics,
               Activation activation, const OnDevice& on);

void backward_sums(const BackwardArguments& arguments, const DeviceStatistics& statistics,
                   Activation activation, double* sums, const OnDevice& on);

void input_gradient(const BackwardArguments& arguments, const DeviceStatistics& statistics,
                    Activation activation, const double* sums, const OnDevice& on);

void add_parameter_gradients(std::int64_t channels, const double* sums, const double* invstd,
                             const channels::Floats& weight_grad, const channels::Floats& bias_grad,
                             const OnDevice& on);

/// `next` says what the batch moves; its sums and statistics are set here.
void finalize_batch(kernels::cuda::Finalize next, const StatisticsSpans& out, const OnDevice& on);

}  // namespace syncbn::bn
