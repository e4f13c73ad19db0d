// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>

#include "cuda/event.hpp"
#include "cuda/stream.hpp"

namespace syncbn::comm::cuda {

/// Throws DeviceError if the stream is being captured: `doing` says what cannot be done then.
void refuse_capture(syncbn::cuda::StreamView stream, const char* doing);

/// Waits for streams of the device that is current when it is made, looking around.
class StreamWait {
 public:
  /// Called again and again while waiting, which what it throws ends.
  using Look = std::function<void()>;

  /// For what was put on `stream`, which is not being captured, so far. Throws DeviceError if that
  /// failed.
  void operator()(syncbn::cuda::StreamView stream, const Look& look);

 private:
  syncbn::cuda::Event end_;
};

}  // namespace syncbn::comm::cuda
