// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "syncbn/communicator.hpp"

#include "comm/device/device_sum.hpp"
#include "comm/device/plain_device_sum.hpp"

namespace syncbn::comm {

/// Makes a sum of `plain` that compares what the ranks sum, and finds out what went wrong:
///
///   - A small kernel before the all-reduce adds the message's fingerprint to it, and one after it
///     compares (cuda/stamp.hpp). If the ranks disagree, the values become NaN on all of them.
///   - Both kernels write to a board in pinned memory (board.hpp) how far the messages are. The
///     host reads it in every call, and the watchdog (watchdog.hpp) every 100 ms. A message that is
///     not finished by the deadlines is reported, and then `plain` is aborted.
///   - The hosts agree on each kind of message before its first use, and find out together why one
///     has failed, over `bootstrap` (agreement.hpp).
///
/// `bootstrap` and `plain` have the same ranks. The sum belongs to the device that is current when
/// it is made.
std::unique_ptr<DeviceSum> stamped_sum(Communicator bootstrap,
                                       std::unique_ptr<PlainDeviceSum> plain, Deadlines deadlines);

}  // namespace syncbn::comm
