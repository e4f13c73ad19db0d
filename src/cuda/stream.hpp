// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

struct CUstream_st;

namespace syncbn::cuda {

/// cudaStream_t
using StreamHandle = CUstream_st*;

/// Refers to a stream that somebody else owns, to put work on. Null is the default stream.
class StreamView {
 public:
  StreamView(StreamHandle stream) : stream_(stream) {}

  operator StreamHandle() const { return stream_; }

  /// Waits for everything put on the stream so far. Throws DeviceError if any of that failed.
  void synchronize() const;

 private:
  StreamHandle stream_;
};

struct DestroyStream {
  void operator()(StreamHandle stream) const noexcept;
};
/// Owns a stream. Work that was put on it goes on when the owner is destroyed.
using Stream = std::unique_ptr<CUstream_st, DestroyStream>;

/// Makes a stream on the current device that does not wait for the default stream.
Stream make_stream();

}  // namespace syncbn::cuda
