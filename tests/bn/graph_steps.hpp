// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "syncbn/batch_norm.hpp"
#include "syncbn/device_communicator.hpp"

namespace syncbn::test {

/// Collective over both groups, which have the same ranks. Captures steps of layers of every type
/// and layout in graphs, replays them with other data in the same memory, and expects the bits that
/// calls give over `group_of_calls`.
void expect_replays_to_give_what_calls_give(const DeviceCommunicator& group,
                                            const DeviceCommunicator& group_of_calls,
                                            Reproducibility reproducibility);

}  // namespace syncbn::test
