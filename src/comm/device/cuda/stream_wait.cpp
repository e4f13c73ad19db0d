// SPDX-License-Identifier: Apache-2.0
#include "comm/device/cuda/stream_wait.hpp"

#include <chrono>
#include <string>
#include <thread>

#include "syncbn/error.hpp"

#include "cuda/capture.hpp"

namespace syncbn::comm::cuda {

void refuse_capture(syncbn::cuda::StreamView stream, const char* doing) {
  if (syncbn::cuda::is_capturing(stream)) {
    throw DeviceError(std::string(doing) +
                      " a stream that is being captured (it waits for the stream, which does "
                      "nothing until it is replayed).");
  }
}

void StreamWait::operator()(syncbn::cuda::StreamView stream, const Look& look) {
  constexpr int yielding_turns = 1000;  // a few ms
  constexpr std::chrono::microseconds nap(50);

  end_.record(stream);
  for (int turn = 0; !end_.is_done(); ++turn) {
    look();
    if (turn < yielding_turns) {
      std::this_thread::yield();
    } else {
      std::this_thread::sleep_for(nap);
    }
  }
}

}  // namespace syncbn::comm::cuda
