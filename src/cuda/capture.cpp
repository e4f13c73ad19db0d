// SPDX-License-Identifier: Apache-2.0
#include "cuda/capture.hpp"

#include "cuda/check.hpp"

namespace syncbn::cuda {

bool is_capturing(StreamView stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  check(cudaStreamIsCapturing(stream, &status), "asking whether a stream is being captured");
  return status != cudaStreamCaptureStatusNone;
}

}  // namespace syncbn::cuda
