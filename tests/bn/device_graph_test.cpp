// SPDX-License-Identifier: Apache-2.0

// A step of the layer on a device, captured in a graph and replayed with other data in the same
// memory, gives what calls give.

#include <optional>
#include <string>

#include <gtest/gtest.h>

#include "syncbn/batch_norm.hpp"
#include "syncbn/error.hpp"

#include "bn/device.hpp"
#include "bn/graph_steps.hpp"

namespace syncbn {
namespace {

class DeviceGraph : public testing::TestWithParam<Reproducibility> {
 protected:
  void SetUp() override {
    if (const std::string why = test::no_device(); !why.empty()) {
      GTEST_SKIP() << why;
    }
  }
};

TEST_P(DeviceGraph, ReplaysAStepOfOneRank) {
  test::expect_replays_to_give_what_calls_give(DeviceCommunicator::self(),
                                               DeviceCommunicator::self(), GetParam());
}

TEST_P(DeviceGraph, ReplaysAStepOverNccl) {
  std::optional<DeviceCommunicator> group;
  try {
    group = DeviceCommunicator::nccl(Communicator::self());
  } catch (const NotConfigured& error) {
    GTEST_SKIP() << "SKIPPED: " << error.what();
  }
  test::expect_replays_to_give_what_calls_give(*group, DeviceCommunicator::self(), GetParam());
}

INSTANTIATE_TEST_SUITE_P(, DeviceGraph,
                         testing::Values(Reproducibility::rank_consistent, Reproducibility::exact),
                         [](const auto& mode) {
                           return mode.param == Reproducibility::exact ? "exact" : "default";
                         });

}  // namespace
}  // namespace syncbn
