// SPDX-License-Identifier: Apache-2.0
#pragma once

// In a build with SYNCBN_CUDA=EMULATED the host stands in for CUDA devices: their memory is the
// host's, and kernels run on the host. The default stream does at once what is put on it, in the
// calling thread. Any other stream does it in a thread of its own, so that the host runs ahead as
// it does of a device.

#include <cstdint>
#include <functional>
#include <memory>

#include "cuda/stream.hpp"

namespace syncbn::cuda {

/// How many devices the host stands in for.
inline constexpr int emulated_devices = 8;

/// From now on counts all memory of this process as the devices', not only what was allocated as
/// that: for tensors of a framework that knows no emulated device.
void count_all_memory_as_the_devices();

/// From now on makes streams that wait a while at random, drawn from `seed`, before each piece of
/// work; so work that no event orders comes in another order each time. The default stream of a
/// device, too, is a thread from now on.
void delay_streams(std::uint32_t seed);

/// Puts `work` on a stream, which may be the default one, as a kernel is: throws DeviceError if the
/// stream is another device's than the current one. The work must not throw.
void put_on(StreamHandle stream, std::function<void()> work);

/// Puts `work` there as a copy is, whose stream may be any device's.
void copy_on(StreamHandle stream, std::function<void()> work);

/// Tells whether work is done before the call that puts it on the stream returns.
bool does_at_once(StreamHandle stream);

/// Keeps `owner` until all streams have done what was put on them so far.
void keep_for_streams(const std::shared_ptr<void>& owner);

/// Throws DeviceError if the calling thread is capturing a stream, in which `doing` is not allowed.
void refuse_in_capture(const char* doing);

/// A Call is a function of this directory that LeavesOut can have do nothing.
enum class Call : std::uint8_t {
  event_hold,    ///< Event::hold
  event_look,    ///< Event::is_done, which then says yes
  stream_wait,   ///< StreamView::synchronize
  graph_replay,  ///< Graph::replay
};

/// A fault that a test plants: while it lives, calls of one kind do nothing in this process, as if
/// the library had forgotten them.
class LeavesOut {
 public:
  explicit LeavesOut(Call what);
  ~LeavesOut();
  LeavesOut(const LeavesOut&) = delete;
  LeavesOut& operator=(const LeavesOut&) = delete;

 private:
  Call what_;
};

/// Tells whether a LeavesOut lives for calls of this kind.
bool is_left_out(Call what);

}  // namespace syncbn::cuda
