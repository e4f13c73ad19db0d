// SPDX-License-Identifier: Apache-2.0
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "syncbn/device_communicator.hpp"
#include "syncbn/error.hpp"

#include "support/failure.hpp"

namespace syncbn {
namespace {

using testing::HasSubstr;

template <class Make>
void expect_not_configured(Make make, const char* advice) {
  EXPECT_THAT(test::failure_of<NotConfigured>([&] { make(); }), HasSubstr(advice));
}

TEST(NoCuda, EveryDeviceCommunicatorSaysHowToGetOne) {
  const Communicator host = Communicator::self();
  expect_not_configured([] { DeviceCommunicator::self(); }, "-DSYNCBN_CUDA=ON");
  expect_not_configured([&] { DeviceCommunicator::staged(host); }, "-DSYNCBN_CUDA=ON");
  const std::vector<Communicator> hosts = Communicator::threads(2);
  for (const Communicator& of_ranks : {host, hosts[0]}) {
    expect_not_configured(
        [&] { DeviceCommunicator::custom(of_ranks, [](double*, std::size_t, CudaStream) {}); },
        "-DSYNCBN_CUDA=ON");
  }
  expect_not_configured([&] { DeviceCommunicator::nccl(host); }, "-DSYNCBN_NCCL=ON");
}

}  // namespace
}  // namespace syncbn
