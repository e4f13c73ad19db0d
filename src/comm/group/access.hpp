// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <utility>

#include "syncbn/communicator.hpp"
#include "syncbn/device_communicator.hpp"

namespace syncbn::comm {

/// Access opens the public handles to the library's own parts: it makes a handle on a group, and
/// gives what a handle holds.
struct Access {
  static Communicator communicator(std::shared_ptr<Group> group) {
    return Communicator(std::move(group));
  }
  static Group& group(const Communicator& handle) { return *handle.group_; }
  static DeviceSum& sum(const DeviceCommunicator& handle) { return *handle.sum_; }
};

}  // namespace syncbn::comm
