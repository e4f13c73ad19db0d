// SPDX-License-Identifier: Apache-2.0
#pragma once

// These functions take exact sums on a CUDA device, in the steps of channels/exact_steps.hpp, where
// all decisions are made on the device: the host does not wait to see them.
//
// A channel is wanted if the next steps have something to do for it. Blocks in which no channel is
// wanted return at once. As in cuda.hpp, pointers are to device memory, work is put on `stream`,
// and DeviceError is thrown if it cannot be launched.
//
// Integers are added in whatever order blocks come in, and what follows from them is computed by
// the same functions as on the host. So the bits are the same as those of backend cpu with fused
// multiplication and addition.

#include <cstdint>

#include "channels/exact_steps.hpp"
#include "channels/finalize.hpp"
#include "kernels/cuda/cuda.hpp"

namespace syncbn::kernels::cuda {

/// Takes a step for all of its channels.
void run(const channels::ExpectBatch& step, Stream stream);
void run(const channels::ChooseForward& step, Stream stream);
void run(const channels::ChooseBackward& step, Stream stream);
void run(const channels::PackSums& step, Stream stream);
void run(const channels::SettleForward& step, Stream stream);
void run(const channels::SettleBackward& step, Stream stream);
void run(const channels::PackExponents& step, Stream stream);
void run(const channels::FitWindows& step, Stream stream);

/// Adds the weights to the count. One read of them.
struct CountWeights {
  const float* weight;
  std::int64_t size;
  std::int64_t* count;  ///< [count_words]
};
void count_weights(const CountWeights& arguments, Stream stream);

/// Tallies the terms of ForwardSums, computed in double. The arguments' own sums are not written.
/// One read of x, or none if no channel is wanted.
void tally(const ForwardSums& arguments, const channels::ExactChannels& to, Stream stream);
void tally_magnitudes(const ForwardSums& arguments, const channels::ExactChannels& to,
                      Stream stream);

/// Tallies the terms of BackwardSums, with x - mean and the product in double, while dz is computed
/// as there. The arguments' own sums are not written. One read of x and dy (and y), or none if no
/// channel is wanted.
void tally(const BackwardSums& arguments, const channels::ExactChannels& to, Stream stream);
void tally_magnitudes(const BackwardSums& arguments, const channels::ExactChannels& to,
                      Stream stream);

}  // namespace syncbn::kernels::cuda
