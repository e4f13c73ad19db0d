// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <type_traits>

#include <cuda_runtime_api.h>

namespace syncbn::cuda {

/// Somebody's stream, to put work on. Null is the default stream.
class StreamView {
 public:
  StreamView(cudaStream_t stream) : stream_(stream) {}

  operator cudaStream_t() const { return stream_; }

  /// Waits for everything put on it so far. Throws DeviceError if any of that failed.
  void synchronize() const;

 private:
  cudaStream_t stream_;
};

struct DestroyStream {
  void operator()(cudaStream_t stream) const noexcept { cudaStreamDestroy(stream); }
};
/// A stream of our own. Work on it goes on after its end.
using Stream = std::unique_ptr<std::remove_pointer_t<cudaStream_t>, DestroyStream>;

/// One that does not wait for the default stream, on the current device.
Stream make_stream();

}  // namespace syncbn::cuda
