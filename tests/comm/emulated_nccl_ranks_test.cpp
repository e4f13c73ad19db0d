// SPDX-License-Identifier: Apache-2.0
//
// Processes over the emulated NCCL, some of which are killed.

#include <chrono>
#include <csignal>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "syncbn/device_communicator.hpp"
#include "syncbn/error.hpp"

#include "comm/device_values.hpp"
#include "comm/nccl/comm.hpp"
#include "comm/nccl/unique_id.hpp"
#include "comm/processes.hpp"
#include "support/failure.hpp"

namespace syncbn {
namespace {

using namespace std::chrono_literals;
using test::DeviceValues;
using test::failure_of;
using testing::AllOf;
using testing::HasSubstr;

constexpr int size = 3;
constexpr auto deadline = 1s;

/// Runs `body` in processes, of which the last one is killed in it.
void expect_last_killed(const test::Body& body) {
  std::vector<test::Ended> ended = test::run_processes(
      size, [](int) { return std::string(); }, body, 10s);
  EXPECT_TRUE(test::was_killed(ended.back()));
  ended.pop_back();
  test::expect_success(ended);
}

void sum(const DeviceCommunicator& group, const DeviceValues& values) {
  group.all_reduce(values.data(), values.length(), values.stream());
  group.synchronize(values.stream());
}

TEST(EmulatedNcclRanks, NameOneThatWasKilled) {
  expect_last_killed([](const Communicator& ranks) {
    const DeviceCommunicator group = DeviceCommunicator::nccl(ranks, deadline);
    const DeviceValues values({1.0, 2.0});
    sum(group, values);
    if (ranks.rank() == size - 1) {
      raise(SIGKILL);
    }
    EXPECT_THAT(failure_of<CommError>([&] { sum(group, values); }),
                AllOf(HasSubstr("within 1 s"), HasSubstr("rank 2")));
    EXPECT_THAT(failure_of<CommError>([&] { sum(group, values); }), HasSubstr("unusable"));
  });
}

TEST(EmulatedNcclRanks, EndTheSetUpWithoutOneThatWasKilled) {
  expect_last_killed([](const Communicator& ranks) {
    DeviceCommunicator::nccl(ranks, 20s);
    if (ranks.rank() == size - 1) {
      raise(SIGKILL);
    }
    EXPECT_THAT(failure_of<CommError>([&] { DeviceCommunicator::nccl(ranks, deadline); }),
                HasSubstr("rank 2"));
  });
}

TEST(EmulatedNcclRanks, GoOnInAPartWithoutOneThatWasKilled) {
  expect_last_killed([](const Communicator& ranks) {
    const bool is_last = ranks.rank() == size - 1;
    comm::nccl::Comm whole(comm::nccl::share_unique_id(ranks), ranks.rank(), size, 10s);
    const auto part = whole.split(is_last ? 1 : 0);
    if (is_last) {
      raise(SIGKILL);
    }
    DeviceValues values({1.0, 2.0});
    whole.all_reduce(values.data(), 2, values.stream());
    whole.abort();
    cuda::StreamView(values.stream()).synchronize();
    values.write();
    part->all_reduce(values.data(), 2, values.stream());
    EXPECT_EQ(values.read(), (std::vector<double>{2.0, 4.0}));
  });
}

}  // namespace
}  // namespace syncbn
