// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>

#include "cuda/event.hpp"
#include "cuda/stream.hpp"

namespace syncbn::comm::cuda {

/// Throws DeviceError if the stream is being captured. `doing` says in the message what cannot be
/// done then.
void refuse_capture(syncbn::cuda::StreamView stream, const char* doing);

/// Waits for streams of the device that was current when this was made. Calls a function meanwhile.
class StreamWait {
 public:
  /// Is called again and again during a wait. An exception that it throws ends the wait.
  using Look = std::function<void()>;

  /// Waits for the work put on `stream` so far. The stream must not be in capture. Throws
  /// DeviceError if the work failed.
  void operator()(syncbn::cuda::StreamView stream, const Look& look);

 private:
  syncbn::cuda::Event end_;
};

}  // namespace syncbn::comm::cuda
