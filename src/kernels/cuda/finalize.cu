// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/finalize.hpp"
#include "kernels/cuda/launch.cuh"

namespace syncbn::kernels::cuda {

void finalize(const Finalize& arguments, Stream stream) {
  run_finalize(arguments, OnStream{stream});
}

void fingerprint(const History& arguments, Stream stream) {
  run_fingerprint(arguments, OnStream{stream});
}

void run(const channels::SetAffineOfBatch& step, Stream stream) {
  run_step(step, OnStream{stream}, "setting scale and shift");
}

void run(const channels::TakeRunningStatistics& step, Stream stream) {
  run_step(step, OnStream{stream}, "taking running statistics");
}

void finalize_backward(const FinalizeBackward& arguments, Stream stream) {
  run_finalize_backward(arguments, OnStream{stream});
}

}  // namespace syncbn::kernels::cuda
