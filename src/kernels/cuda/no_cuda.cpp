// SPDX-License-Identifier: Apache-2.0
#include "syncbn/error.hpp"

#include "kernels/cuda/cuda.hpp"
#include "kernels/cuda/exact.hpp"

namespace syncbn::kernels::cuda {
namespace {

[[noreturn]] void refuse() {
  throw NotConfigured("no kernels for CUDA (built without it). Configure with -DSYNCBN_CUDA=ON.");
}

}  // namespace

void forward_sums(const ForwardSums&, void*, Stream) {
  refuse();
}
void finalize(const Finalize&, Stream) {
  refuse();
}
void fingerprint(const History&, Stream) {
  refuse();
}
void run(const channels::SetAffineOfBatch&, Stream) {
  refuse();
}
void run(const channels::TakeRunningStatistics&, Stream) {
  refuse();
}
void normalize(const Normalize&, Stream) {
  refuse();
}
void backward_sums(const BackwardSums&, void*, Stream) {
  refuse();
}
void finalize_backward(const FinalizeBackward&, Stream) {
  refuse();
}
void input_gradient(const InputGradient&, Stream) {
  refuse();
}

void run(const channels::ExpectBatch&, Stream) {
  refuse();
}
void run(const channels::ChooseForward&, Stream) {
  refuse();
}
void run(const channels::ChooseBackward&, Stream) {
  refuse();
}
void run(const channels::PackSums&, Stream) {
  refuse();
}
void run(const channels::SettleForward&, Stream) {
  refuse();
}
void run(const channels::SettleBackward&, Stream) {
  refuse();
}
void run(const channels::PackExponents&, Stream) {
  refuse();
}
void run(const channels::FitWindows&, Stream) {
  refuse();
}
void count_weights(const CountWeights&, Stream) {
  refuse();
}
void tally(const ForwardSums&, const channels::ExactChannels&, Stream) {
  refuse();
}
void tally(const BackwardSums&, const channels::ExactChannels&, Stream) {
  refuse();
}
void tally_magnitudes(const ForwardSums&, const channels::ExactChannels&, Stream) {
  refuse();
}
void tally_magnitudes(const BackwardSums&, const channels::ExactChannels&, Stream) {
  refuse();
}

}  // namespace syncbn::kernels::cuda
