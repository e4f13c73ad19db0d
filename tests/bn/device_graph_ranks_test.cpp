// SPDX-License-Identifier: Apache-2.0

// Steps of several ranks over NCCL, captured in a graph on each rank's own emulated device and
// replayed, give what calls give.

#include <chrono>

#include <gtest/gtest.h>

#include "syncbn/batch_norm.hpp"
#include "syncbn/device_communicator.hpp"

#include "bn/graph_steps.hpp"
#include "cuda/device.hpp"
#include "support/on_ranks.hpp"

namespace syncbn {
namespace {

using namespace std::chrono_literals;

TEST(DeviceGraphOfRanks, ReplaysStepsOverNccl) {
  for (const auto kind : {Reproducibility::rank_consistent, Reproducibility::exact}) {
    test::on_ranks([kind](const Communicator& host) {
      const cuda::OnDevice own(host.rank());
      test::expect_replays_to_give_what_calls_give(DeviceCommunicator::nccl(host, 20s),
                                                   DeviceCommunicator::nccl(host, 20s), kind);
    });
  }
}

}  // namespace
}  // namespace syncbn
