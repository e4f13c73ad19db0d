// SPDX-License-Identifier: Apache-2.0

// Kernels for devices that run on the host, thread after thread, in place of what a build without
// CUDA has. support/cuda_on_host.cpp makes the host a device.

#include <algorithm>
#include <cstdlib>

#include "bn/device.hpp"
#include "kernels/cuda/backward_sums.hpp"
#include "kernels/cuda/cuda.hpp"
#include "kernels/cuda/each_channel.hpp"
#include "kernels/cuda/exact_terms.hpp"
#include "kernels/cuda/finalize.hpp"
#include "kernels/cuda/forward_sums.hpp"
#include "kernels/cuda/input_gradient.hpp"
#include "kernels/cuda/normalize.hpp"
#include "kernels/cuda/weight_count.hpp"
#include "kernels/cuda_on_host.hpp"

namespace syncbn::kernels::cuda {

void forward_sums(const ForwardSums& arguments, Stream) {
  run_forward_sums(arguments, test::OnHost());
}
void finalize(const Finalize& arguments, Stream) {
  run_finalize(arguments, test::OnHost());
}
void fingerprint(const History& arguments, Stream) {
  run_fingerprint(arguments, test::OnHost());
}
void affine(const Affine& arguments, Stream) {
  run_affine(arguments, test::OnHost());
}
void normalize(const Normalize& arguments, Stream) {
  run_normalize(arguments, test::OnHost());
}
void backward_sums(const BackwardSums& arguments, Stream) {
  run_backward_sums(arguments, test::OnHost());
}
void finalize_backward(const FinalizeBackward& arguments, Stream) {
  run_finalize_backward(arguments, test::OnHost());
}
void input_gradient(const InputGradient& arguments, Stream) {
  run_input_gradient(arguments, test::OnHost());
}

void run(const channels::ExpectBatch& step, Stream) {
  run_step(step, test::OnHost(), "");
}
void run(const channels::ChooseForward& step, Stream) {
  run_step(step, test::OnHost(), "");
}
void run(const channels::ChooseBackward& step, Stream) {
  run_step(step, test::OnHost(), "");
}
void run(const channels::PackSums& step, Stream) {
  run_step(step, test::OnHost(), "");
}
void run(const channels::SettleForward& step, Stream) {
  run_step(step, test::OnHost(), "");
}
void run(const channels::SettleBackward& step, Stream) {
  run_step(step, test::OnHost(), "");
}
void run(const channels::PackExponents& step, Stream) {
  run_step(step, test::OnHost(), "");
}
void run(const channels::FitWindows& step, Stream) {
  run_step(step, test::OnHost(), "");
}
void count_weights(const CountWeights& arguments, Stream) {
  run_count_weights(arguments, test::OnHost());
}
void tally(const ForwardTally& arguments, Stream) {
  run_tally(arguments, test::OnHost());
}
void tally(const BackwardTally& arguments, Stream) {
  run_tally(arguments, test::OnHost());
}
void tally_magnitudes(const ForwardTally& arguments, Stream) {
  run_tally_magnitudes(arguments, test::OnHost());
}
void tally_magnitudes(const BackwardTally& arguments, Stream) {
  run_tally_magnitudes(arguments, test::OnHost());
}

}  // namespace syncbn::kernels::cuda

namespace syncbn::test {

const char* no_device() {
  return "";
}

DeviceMemory::DeviceMemory(std::span<const std::byte> bytes) {
  if (!bytes.empty()) {
    data_ = std::malloc(bytes.size());
    std::ranges::copy(bytes, static_cast<std::byte*>(data_));
  }
}

DeviceMemory::~DeviceMemory() {
  std::free(data_);
}

void fetch(const void* from, std::span<std::byte> to) {
  std::copy_n(static_cast<const std::byte*>(from), to.size(), to.begin());
}

}  // namespace syncbn::test
