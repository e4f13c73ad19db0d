// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/exact_terms.hpp"
#include "kernels/cuda/launch.cuh"

namespace syncbn::kernels::cuda {

void tally(const ForwardTally& arguments, Stream stream) {
  run_tally(arguments, OnStream{stream});
}

void tally_magnitudes(const ForwardTally& arguments, Stream stream) {
  run_tally_magnitudes(arguments, OnStream{stream});
}

}  // namespace syncbn::kernels::cuda
