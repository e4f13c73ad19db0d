// SPDX-License-Identifier: Apache-2.0
//
// Sums of device memory over the host, with threads of one device as ranks. The device may be
// emulated.

#include <array>
#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "syncbn/device_communicator.hpp"
#include "syncbn/error.hpp"

#include "comm/deliveries.hpp"
#include "comm/device/device_sum.hpp"
#include "comm/device_values.hpp"
#include "comm/group/access.hpp"
#include "comm/held_stream.hpp"
#include "support/failure.hpp"
#include "support/on_ranks.hpp"

namespace syncbn {
namespace {

using namespace std::chrono_literals;
using comm::Descriptor;
using test::DeviceValues;
using testing::AllOf;
using testing::HasSubstr;

class StagedTest : public test::OnDeviceTest {};

TEST_F(StagedTest, MemoryOfTheHostIsRefused) {
  const DeviceCommunicator group = DeviceCommunicator::staged(Communicator::self());
  std::vector<double> values(3);
  EXPECT_THAT(test::failure_of<InvalidArgument>(
                  [&] { group.all_reduce(values.data(), values.size(), nullptr); }),
              HasSubstr("not in the memory of cuda:0"));
}

TEST_F(StagedTest, SumsOfSeveralLengthsFollowEachOther) {
  test::on_ranks([](const Communicator& host) {
    const DeviceCommunicator group = DeviceCommunicator::staged(host);
    for (const std::size_t length : {1, 129, 5000, 130}) {
      DeviceValues values(std::vector<double>(length, host.rank() + 1.0));
      group.all_reduce(values.data(), length, values.stream());
      group.all_reduce(values.data(), length, values.stream());
      group.synchronize(values.stream());
      const double size = host.size();
      EXPECT_EQ(values.read(), std::vector<double>(length, size * size * (size + 1) / 2));
    }
  });
}

TEST_F(StagedTest, StreamsMayTakeTurns) {
  test::on_ranks([](const Communicator& host) {
    const DeviceCommunicator group = DeviceCommunicator::staged(host);
    DeviceValues one(std::vector<double>(100, 1.0));
    DeviceValues two(std::vector<double>(100, 2.0));
    for (int turn = 0; turn < 3; ++turn) {
      group.all_reduce(one.data(), one.length(), one.stream());
      group.all_reduce(two.data(), two.length(), two.stream());
    }
    const double cubed = std::pow(host.size(), 3);
    EXPECT_EQ(one.read(), std::vector<double>(100, cubed));
    EXPECT_EQ(two.read(), std::vector<double>(100, 2 * cubed));
  });
}

TEST_F(StagedTest, PartsSumByThemselves) {
  test::on_ranks([](const Communicator& host) {
    const DeviceCommunicator group = DeviceCommunicator::staged(host);
    const DeviceCommunicator part = group.split(host.rank() % 2 - 1);
    DeviceValues values({1.0});
    part.all_reduce(values.data(), 1, values.stream());
    EXPECT_EQ(values.read(), std::vector<double>{static_cast<double>(part.size())});
  });
}

TEST_F(StagedTest, RanksThatDisagreeAreToldInTheCall) {
  test::on_ranks([](const Communicator& host) {
    if (host.size() == 1) {
      return;
    }
    const DeviceCommunicator group = DeviceCommunicator::staged(host);
    DeviceValues values(std::vector<double>(9, 1.0));
    const Descriptor what{&test::delivery, host.rank() == 0 ? "apples" : "pears", 4, DType::f32};
    EXPECT_THAT(
        test::failure_of<CommError>([&] {
          comm::Access::sum(group).all_reduce(what, {values.data(), 9}, values.stream());
        }),
        AllOf(HasSubstr("'apples'"), HasSubstr("'pears'"), HasSubstr("deliver the same goods")));
  });
}

TEST_F(StagedTest, AMissingRankIsNamed) {
  std::array<std::atomic<int>, 8> told{};  // of groups of so many ranks
  test::on_ranks(
      [&told](const Communicator& host) {
        if (host.size() == 1) {
          return;
        }
        std::atomic<int>& of_group = told.at(static_cast<std::size_t>(host.size()));
        const DeviceCommunicator group = DeviceCommunicator::staged(host);
        if (host.rank() == host.size() - 1) {
          while (of_group < host.size() - 1) {
            std::this_thread::sleep_for(1ms);
          }
          return;
        }
        DeviceValues values({1.0});
        EXPECT_THAT(test::failure_of<CommError>(
                        [&] { group.all_reduce(values.data(), 1, values.stream()); }),
                    HasSubstr("rank " + std::to_string(host.size() - 1) + " did not come"));
        ++of_group;
      },
      4s);
}

TEST_F(StagedTest, ARankWhoseStreamStandsStillGivesUpAndTheOthersHear) {
  test::on_ranks([](const Communicator& host) {
    if (host.size() == 1) {
      return;
    }
    const DeviceCommunicator group = DeviceCommunicator::staged(host, Deadlines(3s));
    DeviceValues values({1.0});
    std::atomic<bool> go{false};
    if (host.rank() == 0) {
      test::hold_until(go, values.stream());
    }
    EXPECT_THAT(
        test::failure_of<CommError>([&] { group.all_reduce(values.data(), 1, values.stream()); }),
        HasSubstr("its own stream was not done within 3 s"));
    go = true;
    cuda::StreamView(values.stream()).synchronize();
  });
}

TEST_F(StagedTest, ASumOfOneRankIsNothingToDo) {
  for (const DeviceCommunicator& group :
       {DeviceCommunicator::self(), DeviceCommunicator::staged(Communicator::self())}) {
    DeviceValues values({1.0, 2.0});
    group.all_reduce(values.data(), 2, values.stream());
    group.split(3).all_reduce(values.data(), 2, values.stream());
    group.synchronize(values.stream());
    group.poll();
    EXPECT_EQ(values.read(), (std::vector<double>{1.0, 2.0}));
    EXPECT_EQ(group.rank(), 0);
    EXPECT_EQ(group.size(), 1);
  }
}

TEST_F(StagedTest, ANullPointerIsRefused) {
  EXPECT_THROW(DeviceCommunicator::self().all_reduce(nullptr, 1, nullptr), InvalidArgument);
}

}  // namespace
}  // namespace syncbn
