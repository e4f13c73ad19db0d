// SPDX-License-Identifier: Apache-2.0
//
// NCCL's sums on a stream that is being captured.

#include <vector>

#include <gtest/gtest.h>

#include "syncbn/device_communicator.hpp"

#include "comm/device_values.hpp"
#include "cuda/graph.hpp"

namespace syncbn {
namespace {

using test::DeviceValues;

class NcclCaptureTest : public test::OnDeviceTest {};

// The first message is of the same kind as the captured one or not: either way the capture holds.
TEST_F(NcclCaptureTest, ASumCanBeCapturedAndReplayed) {
  for (const bool warmed_up : {true, false}) {
    const DeviceCommunicator group = DeviceCommunicator::nccl(Communicator::self());
    DeviceValues values(std::vector<double>(100, 2.0));
    if (warmed_up) {
      group.all_reduce(values.data(), values.length(), values.stream());
      group.synchronize(values.stream());
    }
    const cuda::Graph graph(values.stream(), [&] {
      group.all_reduce(values.data(), values.length(), values.stream());
    });
    for (int step = 0; step < 5; ++step) {
      graph.replay(values.stream());
    }
    group.synchronize(values.stream());  // throws if the messages' count had stood still
    EXPECT_EQ(values.read(), std::vector<double>(100, 2.0));
  }
}

}  // namespace
}  // namespace syncbn
