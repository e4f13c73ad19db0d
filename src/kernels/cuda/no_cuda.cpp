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

void forward_sums(const ForwardSums&, Stream) {
  refuse();
}
void finalize(const Finalize&, Stream) {
  refuse();
}
void fingerprint(const History&, Stream) {
  refuse();
}
void affine(const Affine&, Stream) {
  refuse();
}
void normalize(const Normalize&, Stream) {
  refuse();
}
void backward_sums(const BackwardSums&, Stream) {
  refuse();
}
void finalize_backward(const FinalizeBackward&, Stream) {
  refuse();
}
void input_gradient(const InputGradient&, Stream) {
  refuse();
}

void choose_windows(const ChooseForward&, Stream) {
  refuse();
}
void choose_windows(const ChooseBackward&, Stream) {
  refuse();
}
void count_weights(const CountWeights&, Stream) {
  refuse();
}
void tally(const ForwardTally&, Stream) {
  refuse();
}
void tally(const BackwardTally&, Stream) {
  refuse();
}
void tally_magnitudes(const ForwardTally&, Stream) {
  refuse();
}
void tally_magnitudes(const BackwardTally&, Stream) {
  refuse();
}
void pack_sums(const TalliedPass&, double*, Stream) {
  refuse();
}
void settle(const SettleForward&, Stream) {
  refuse();
}
void settle(const SettleBackward&, Stream) {
  refuse();
}
void pack_exponents(const TalliedPass&, const ExponentCode&, double*, Stream) {
  refuse();
}
void fit_windows(const FitWindows&, Stream) {
  refuse();
}

}  // namespace syncbn::kernels::cuda
