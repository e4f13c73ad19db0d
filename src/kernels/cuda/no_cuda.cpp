// SPDX-License-Identifier: Apache-2.0
#include "syncbn/error.hpp"

#include "kernels/cuda/cuda.hpp"

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

}  // namespace syncbn::kernels::cuda
