// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

struct CUstream_st;

namespace syncbn::cuda {

/// cudaStream_t
using StreamHandle = CUstream_st*;

/// Somebody's stream, to put work on. Null is the default stream.
class StreamView {
 public:
  StreamView(StreamHandle stream) : stream_(stream) {}

  operator StreamHandle() const { return stream_; }

  /// Waits for everything put on it so far. Throws DeviceError if any of that failed.
  void synchronize() const;

 private:
  StreamHandle stream_;
};

struct DestroyStream {
  void operator()(StreamHandle stream) const noexcept;
};
/// A stream of our own. Work on it goes on after its end.
using Stream = std::unique_ptr<CUstream_st, DestroyStream>;

/// One that does not wait for the default stream, on the current device.
Stream make_stream();

}  // namespace syncbn::cuda
