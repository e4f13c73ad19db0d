// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "syncbn/device_communicator.hpp"
#include "syncbn/error.hpp"

#include "support/failure.hpp"

namespace syncbn {
namespace {

TEST(NoNccl, SaysHowToGetIt) {
  EXPECT_NE(test::failure_of<NotConfigured>([&] {
              DeviceCommunicator::nccl(Communicator::self());
            }).find("-DSYNCBN_NCCL=ON"),
            std::string::npos);
}

}  // namespace
}  // namespace syncbn
