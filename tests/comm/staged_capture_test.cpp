// SPDX-License-Identifier: Apache-2.0
//
// A staged sum on a stream that is being captured.

#include <vector>

#include <gtest/gtest.h>

#include "syncbn/device_communicator.hpp"
#include "syncbn/error.hpp"

#include "comm/device_values.hpp"
#include "cuda/graph.hpp"

namespace syncbn {
namespace {

using test::DeviceValues;

class StagedCaptureTest : public test::OnDeviceTest {};

TEST_F(StagedCaptureTest, AStreamThatIsBeingCapturedIsRefused) {
  std::vector<Communicator> hosts = Communicator::threads(2);
  const DeviceCommunicator group = DeviceCommunicator::staged(hosts[0]);
  DeviceValues values({1.0});
  const cuda::Graph nothing(values.stream(), [&] {
    EXPECT_THROW(group.all_reduce(values.data(), 1, values.stream()), DeviceError);
    EXPECT_THROW(group.synchronize(values.stream()), DeviceError);
  });
}

}  // namespace
}  // namespace syncbn
