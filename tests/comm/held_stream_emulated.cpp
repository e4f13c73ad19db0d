// SPDX-License-Identifier: Apache-2.0
#include <chrono>
#include <thread>

#include "comm/held_stream.hpp"
#include "cuda/emulated.hpp"

namespace syncbn::test {

void hold_until(std::atomic<bool>& open, CudaStream stream) {
  cuda::put_on(stream, [&open] {
    while (!open) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  });
}

}  // namespace syncbn::test
