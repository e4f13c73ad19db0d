// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "syncbn/device_communicator.hpp"
#include "syncbn/error.hpp"

namespace syncbn {
namespace {

TEST(NoNccl, SaysHowToGetIt) {
  try {
    DeviceCommunicator::nccl(Communicator::self());
    FAIL() << "made";
  } catch (const NotConfigured& error) {
    EXPECT_NE(std::string(error.what()).find("-DSYNCBN_NCCL=ON"), std::string::npos);
  }
}

}  // namespace
}  // namespace syncbn
