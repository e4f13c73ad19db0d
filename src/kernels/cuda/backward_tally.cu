// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/exact_terms.hpp"
#include "kernels/cuda/launch.cuh"

namespace syncbn::kernels::cuda {

void tally(const BackwardSums& arguments, const channels::ExactChannels& to, Stream stream) {
  run_tally(arguments, to, OnStream{stream});
}

void tally_magnitudes(const BackwardSums& arguments, const channels::ExactChannels& to,
                      Stream stream) {
  run_tally_magnitudes(arguments, to, OnStream{stream});
}

}  // namespace syncbn::kernels::cuda
