// SPDX-License-Identifier: Apache-2.0
#include "cuda/stream.hpp"

#include "cuda/check.hpp"

namespace syncbn::cuda {

void StreamView::synchronize() const {
  check(cudaStreamSynchronize(stream_), "waiting for a stream");
}

void DestroyStream::operator()(StreamHandle stream) const noexcept {
  cudaStreamDestroy(stream);
}

Stream make_stream() {
  cudaStream_t stream = nullptr;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "creating a stream");
  return Stream(stream);
}

}  // namespace syncbn::cuda
