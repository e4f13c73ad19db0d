// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/exact_messages.hpp"
#include "kernels/cuda/exact_windows.hpp"
#include "kernels/cuda/launch.cuh"

namespace syncbn::kernels::cuda {

void choose_windows(const ChooseForward& arguments, Stream stream) {
  run_choose_windows(arguments, OnStream{stream});
}
void choose_windows(const ChooseBackward& arguments, Stream stream) {
  run_choose_windows(arguments, OnStream{stream});
}
void count_weights(const CountWeights& arguments, Stream stream) {
  run_count_weights(arguments, OnStream{stream});
}
void pack_sums(const TalliedPass& pass, double* message, Stream stream) {
  run_pack_sums(pass, message, OnStream{stream});
}
void settle(const SettleForward& arguments, Stream stream) {
  run_settle(arguments, OnStream{stream});
}
void settle(const SettleBackward& arguments, Stream stream) {
  run_settle(arguments, OnStream{stream});
}
void pack_exponents(const TalliedPass& pass, const ExponentCode& code, double* message,
                    Stream stream) {
  run_pack_exponents(pass, code, message, OnStream{stream});
}
void fit_windows(const FitWindows& arguments, Stream stream) {
  run_fit_windows(arguments, OnStream{stream});
}

}  // namespace syncbn::kernels::cuda
