// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/each_channel.hpp"
#include "kernels/cuda/exact.hpp"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/weight_count.hpp"

namespace syncbn::kernels::cuda {

void run(const channels::ExpectBatch& step, Stream stream) {
  run_step(step, OnStream{stream}, "expecting a batch");
}
void run(const channels::ChooseForward& step, Stream stream) {
  run_step(step, OnStream{stream}, "choosing windows of differences");
}
void run(const channels::ChooseBackward& step, Stream stream) {
  run_step(step, OnStream{stream}, "choosing windows of gradients");
}
void run(const channels::PackSums& step, Stream stream) {
  run_step(step, OnStream{stream}, "packing exact sums");
}
void run(const channels::SettleForward& step, Stream stream) {
  run_step(step, OnStream{stream}, "settling exact sums");
}
void run(const channels::SettleBackward& step, Stream stream) {
  run_step(step, OnStream{stream}, "settling exact sums of gradients");
}
void run(const channels::PackExponents& step, Stream stream) {
  run_step(step, OnStream{stream}, "packing exponents");
}
void run(const channels::FitWindows& step, Stream stream) {
  run_step(step, OnStream{stream}, "fitting windows");
}
void count_weights(const CountWeights& arguments, Stream stream) {
  run_count_weights(arguments, OnStream{stream});
}

}  // namespace syncbn::kernels::cuda
