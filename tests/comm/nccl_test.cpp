// SPDX-License-Identifier: Apache-2.0
//
// NCCL with one rank, also the emulated one. Two are in nccl_ranks_test; what several do when
// things go wrong also in emulated_nccl_test, agreement_test, watchdog_test and
// stamp_on_device_test.

#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "syncbn/device_communicator.hpp"
#include "syncbn/error.hpp"

#include "comm/device/device_sum.hpp"
#include "comm/device_values.hpp"
#include "comm/nccl/comm.hpp"
#include "comm/nccl/device_sharing.hpp"
#include "comm/nccl/unique_id.hpp"
#include "support/failure.hpp"

namespace syncbn {
namespace {

using test::DeviceValues;
using testing::AllOf;
using testing::HasSubstr;

class NcclTest : public test::OnDeviceTest {};

TEST_F(NcclTest, ASumOfOneRankStaysWhatItIs) {
  const DeviceCommunicator group = DeviceCommunicator::nccl(Communicator::self());
  for (const std::size_t length : {1, 129, 5000, 129}) {
    DeviceValues values(std::vector<double>(length, 3.0));
    group.all_reduce(values.data(), length, values.stream());
    group.synchronize(values.stream());
    group.poll();
    EXPECT_EQ(values.read(), std::vector<double>(length, 3.0));
  }
}

TEST_F(NcclTest, PartsSumByThemselves) {
  const DeviceCommunicator group = DeviceCommunicator::nccl(Communicator::self());
  const DeviceCommunicator part = group.split(-5);
  DeviceValues values({1.0, 2.0});
  part.all_reduce(values.data(), 2, values.stream());
  group.all_reduce(values.data(), 2, values.stream());
  part.synchronize(values.stream());
  group.synchronize(values.stream());
  EXPECT_EQ(values.read(), (std::vector<double>{1.0, 2.0}));
}

TEST_F(NcclTest, RanksThatShareADeviceAreRefused) {
  if (comm::nccl::ranks_may_share_a_device()) {
    GTEST_SKIP() << "SKIPPED: NCCL_MULTI_RANK_GPU_ENABLE is 1 here";
  }
  std::vector<Communicator> hosts = Communicator::threads(2);
  std::vector<std::string> messages(2);
  std::vector<std::thread> ranks;
  for (std::size_t rank = 0; rank < 2; ++rank) {
    ranks.emplace_back([&hosts, &messages, rank] {
      try {
        DeviceCommunicator::nccl(hosts[rank]);
      } catch (const InvalidArgument& error) {
        messages[rank] = error.what();
      }
    });
  }
  for (std::thread& rank : ranks) {
    rank.join();
  }
  for (const std::string& message : messages) {
    EXPECT_THAT(message, AllOf(HasSubstr("ranks 0-1"), HasSubstr("staged")));
  }
}

TEST_F(NcclTest, AnAbortedCommunicatorThrows) {
  const ncclUniqueId id = comm::nccl::share_unique_id(Communicator::self());
  comm::nccl::Comm comm(id, 0, 1, std::chrono::seconds(60));
  EXPECT_EQ(comm.trouble(), "");
  std::thread other([&] { comm.abort(); });
  other.join();
  DeviceValues values({1.0});
  EXPECT_THROW(comm.all_reduce(values.data(), 1, values.stream()), CommError);
  EXPECT_EQ(comm.trouble(), "");
}

// A rank that waits for another one to come: NCCL would wait without an end.
TEST_F(NcclTest, ARankThatNeverComesEndsTheSetUpAtTheDeadline) {
  const ncclUniqueId id = comm::nccl::share_unique_id(Communicator::self());
  EXPECT_THAT(test::failure_of<CommError>(
                  [&] { const comm::nccl::Comm comm(id, 0, 2, std::chrono::milliseconds(500)); }),
              HasSubstr("within 0.5 s"));
}

}  // namespace
}  // namespace syncbn
