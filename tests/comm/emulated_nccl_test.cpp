// SPDX-License-Identifier: Apache-2.0
//
// Several ranks over the emulated NCCL, and its failures, which a test plants. Ranks are threads,
// or processes under mpirun; those that die are in emulated_nccl_ranks_test.

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "syncbn/device_communicator.hpp"
#include "syncbn/error.hpp"

#include "comm/device/device_sum.hpp"
#include "comm/device_values.hpp"
#include "comm/held_stream.hpp"
#include "comm/nccl/comm.hpp"
#include "comm/nccl/emulated/failures.hpp"
#include "comm/nccl/emulated/rendezvous.hpp"
#include "comm/nccl/library.hpp"
#include "comm/nccl/unique_id.hpp"
#include "cuda/device.hpp"
#include "cuda/event.hpp"
#include "support/failure.hpp"
#include "support/on_ranks.hpp"

namespace syncbn::comm::nccl {
namespace {

using namespace std::chrono_literals;
using emulated::piece_length;
using test::DeviceValues;
using test::failure_of;
using testing::AllOf;
using testing::HasSubstr;

Comm make_comm(const Communicator& host, Deadlines deadlines = 20s) {
  return Comm(share_unique_id(host), host.rank(), host.size(), deadlines);
}

/// Waits for all ranks.
void meet(const Communicator& host) {
  const double nothing = 0;
  host.all_gather({&nothing, 1});
}

/// Returns values of a rank of which the order of a sum can be told.
std::vector<double> values_of(int rank, std::size_t length) {
  std::vector<double> values(length);
  for (std::size_t i = 0; i < length; ++i) {
    values[i] = std::sin(static_cast<double>(i) + 100.0 * rank) * std::pow(10.0, rank * 5);
  }
  return values;
}

std::vector<double> sum_in_rank_order(int ranks, std::size_t length) {
  std::vector<double> sum = values_of(0, length);
  for (int rank = 1; rank < ranks; ++rank) {
    std::ranges::transform(sum, values_of(rank, length), sum.begin(), std::plus());
  }
  return sum;
}

TEST(EmulatedNccl, SumsInRankOrderWhateverTheLength) {
  test::on_ranks([](const Communicator& host) {
    const DeviceCommunicator group = DeviceCommunicator::nccl(host, 20s);
    for (const std::size_t length : {std::size_t{1}, piece_length - 1, piece_length,
                                     piece_length + 1, 3 * piece_length + 7, std::size_t{5}}) {
      DeviceValues values(values_of(host.rank(), length));
      group.all_reduce(values.data(), length, values.stream());
      group.synchronize(values.stream());
      EXPECT_EQ(values.read(), sum_in_rank_order(host.size(), length)) << length;
    }
  });
}

TEST(EmulatedNccl, SumsOnTheDefaultStreamsOfTheRanksDevices) {
  test::on_ranks([](const Communicator& host) {
    const cuda::OnDevice own(host.rank());
    const DeviceCommunicator group = DeviceCommunicator::nccl(host, 20s);
    const DeviceValues values(values_of(host.rank(), 9));
    cuda::StreamView(values.stream()).synchronize();
    group.all_reduce(values.data(), 9, nullptr);
    group.synchronize(nullptr);
    EXPECT_EQ(values.read(), sum_in_rank_order(host.size(), 9));
  });
}

// All ranks put the sums there in the same order, but hold different streams for a while.
TEST(EmulatedNccl, SumsInTheOrderOfTheCallsOnStreamsThatDoNotWaitForEachOther) {
  test::on_ranks([](const Communicator& host) {
    constexpr std::size_t streams = 6;
    Comm comm = make_comm(host);
    std::deque<DeviceValues> values;
    std::array<std::atomic<bool>, streams> go{};
    for (std::size_t i = 0; i < streams; ++i) {
      values.emplace_back(values_of(host.rank(), 100 * i + 1));
      test::hold_until(go.at(i), values.back().stream());
      comm.all_reduce(values.back().data(), values.back().length(), values.back().stream());
    }
    for (std::size_t i = 0; i < streams; ++i) {
      go.at(host.rank() % 2 == 0 ? i : streams - 1 - i) = true;
    }
    for (const DeviceValues& one : values) {
      EXPECT_EQ(one.read(), sum_in_rank_order(host.size(), one.length()));
    }
  });
}

TEST(EmulatedNccl, KeepsGroupsApartThatSumAtTheSameTime) {
  test::on_ranks([](const Communicator& host) {
    const DeviceCommunicator one = DeviceCommunicator::nccl(host, 20s);
    const DeviceCommunicator two = DeviceCommunicator::nccl(host, 20s);
    const DeviceCommunicator part = one.split(host.rank() % 2);
    DeviceValues a({1.0}), b({10.0}), c({100.0});
    for (int turn = 0; turn < 20; ++turn) {
      one.all_reduce(a.data(), 1, a.stream());
      part.all_reduce(c.data(), 1, c.stream());
      two.all_reduce(b.data(), 1, b.stream());
    }
    one.synchronize(a.stream());
    two.synchronize(b.stream());
    part.synchronize(c.stream());
    EXPECT_EQ(a.read(), std::vector<double>{std::pow(host.size(), 20)});
    EXPECT_EQ(b.read(), std::vector<double>{10 * std::pow(host.size(), 20)});
    EXPECT_EQ(c.read(), std::vector<double>{100 * std::pow(part.size(), 20)});
  });
}

/// Waits for the call before, which has returned `code`.
ncclResult_t settled(ncclComm_t comm, ncclResult_t code) {
  while (code == ncclInProgress) {
    std::this_thread::sleep_for(1ms);
    EXPECT_EQ(library().CommGetAsyncError(comm, &code), ncclSuccess);
  }
  return code;
}

TEST(EmulatedNccl, SplitsByColorsInTheOrderOfKeys) {
  test::on_ranks([](const Communicator& host) {
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    ncclComm_t whole = nullptr;
    const ncclUniqueId id = share_unique_id(host);
    ASSERT_EQ(
        settled(whole, library().CommInitRankConfig(&whole, host.size(), id, host.rank(), &config)),
        ncclSuccess);
    const bool left_out = host.rank() == 1;
    ncclComm_t part = whole;
    ASSERT_EQ(settled(whole, library().CommSplit(whole, left_out ? NCCL_SPLIT_NOCOLOR : 3,
                                                 -host.rank(), &part, nullptr)),
              ncclSuccess);
    if (left_out) {
      EXPECT_EQ(part, nullptr);
    } else {
      int rank = -1;
      EXPECT_EQ(library().CommUserRank(part, &rank), ncclSuccess);
      const int behind = host.size() - 1 - host.rank();
      EXPECT_EQ(rank, host.rank() == 0 && host.size() > 1 ? behind - 1 : behind);
      EXPECT_EQ(library().CommDestroy(part), ncclSuccess);
    }
    EXPECT_EQ(library().CommSplit(whole, -2, 0, &part, nullptr), ncclInvalidArgument);
    EXPECT_EQ(library().CommDestroy(whole), ncclSuccess);
  });
}

TEST(EmulatedNccl, RefusesACallWhileAnotherIsInProgress) {
  const ncclUniqueId id = share_unique_id(Communicator::self());
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  ncclComm_t comm = nullptr;
  ASSERT_EQ(library().CommInitRankConfig(&comm, 2, id, 0, &config), ncclInProgress);
  EXPECT_EQ(library().CommFinalize(comm), ncclInvalidArgument);
  EXPECT_THAT(library().GetLastError(nullptr), HasSubstr("busy"));
  EXPECT_EQ(library().CommAbort(comm), ncclSuccess);
  EXPECT_EQ(library().CommInitRankConfig(&comm, 2, id, 2, &config), ncclInvalidArgument);
  EXPECT_EQ(library().CommInitRankConfig(&comm, 2, id, 1, &config), ncclSystemError)
      << "the id has been given up";
}

TEST(EmulatedNccl, ASumMayBeInProgressForAWhile) {
  test::on_ranks([](const Communicator& host) {
    const DeviceCommunicator group = DeviceCommunicator::nccl(host, 20s);
    DeviceValues values(values_of(host.rank(), 9));
    for (int turn = 0; turn < 3; ++turn) {
      if (turn == host.rank()) {
        emulated::plant({.function = "AllReduce", .rank = host.rank(), .code = ncclInProgress});
      }
      values.write();
      group.all_reduce(values.data(), 9, values.stream());
      EXPECT_EQ(values.read(), sum_in_rank_order(host.size(), 9));
    }
    group.poll();
  });
}

TEST(EmulatedNccl, SumsDoublesOnly) {
  const ncclUniqueId id = share_unique_id(Communicator::self());
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  ncclComm_t comm = nullptr;
  ASSERT_EQ(settled(comm, library().CommInitRankConfig(&comm, 1, id, 0, &config)), ncclSuccess);
  const DeviceValues values({1.0});
  const auto all_reduce = [&](ncclDataType_t type, ncclRedOp_t operation) {
    return library().AllReduce(values.data(), values.data(), 1, type, operation, comm,
                               values.stream());
  };
  EXPECT_EQ(all_reduce(ncclFloat, ncclSum), ncclInvalidArgument);
  EXPECT_EQ(all_reduce(ncclDouble, ncclMax), ncclInvalidArgument);
  EXPECT_EQ(all_reduce(ncclDouble, ncclSum), ncclSuccess);
  EXPECT_EQ(values.read(), std::vector<double>{1.0});
  EXPECT_EQ(library().CommDestroy(comm), ncclSuccess);
}

/// Collects what the library reports while it lives.
class Reports {
 public:
  Reports() {
    set_report_handler([this](std::string_view text) {
      const std::scoped_lock lock(mutex_);
      all_.emplace_back(text);
    });
  }
  Reports(const Reports&) = delete;
  Reports& operator=(const Reports&) = delete;
  ~Reports() { set_report_handler(nullptr); }

  std::vector<std::string> all() const {
    const std::scoped_lock lock(mutex_);
    return all_;
  }

 private:
  mutable std::mutex mutex_;
  std::vector<std::string> all_;
};

TEST(EmulatedNccl, WaitsForARankThatIsLateAndReportsIt) {
  const Reports reports;
  int groups = 0;
  test::on_ranks([&groups](const Communicator& host) {
    if (host.size() == 1) {
      return;
    }
    const DeviceCommunicator group = DeviceCommunicator::nccl(host, Deadlines(20s, 200ms));
    DeviceValues values(values_of(host.rank(), 9));
    group.all_reduce(values.data(), 9, values.stream());
    group.synchronize(values.stream());
    meet(host);
    values.write();
    if (host.rank() == host.size() - 1) {
      std::this_thread::sleep_for(600ms);
    } else if (host.rank() == 0) {
      ++groups;
    }
    group.all_reduce(values.data(), 9, values.stream());
    group.synchronize(values.stream());
    EXPECT_EQ(values.read(), sum_in_rank_order(host.size(), 9));
    meet(host);
  });
  EXPECT_THAT(reports.all(), groups == 0
                                 ? testing::An<const std::vector<std::string>&>()
                                 : testing::Contains(HasSubstr("not finished within 0.2 s")));
}

/// What several ranks see of a failure that one of them has: it hears at once, and the others when
/// a message stands still.
class EmulatedNcclFailure : public testing::Test {
 protected:
  static constexpr auto deadline = 1s;

  /// Runs `body` on groups of more than one rank.
  static void on_ranks(const std::function<void(const Communicator&, bool is_last)>& body) {
    test::on_ranks([&body](const Communicator& host) {
      if (host.size() > 1) {
        body(host, host.rank() == host.size() - 1);
        meet(host);
      }
    });
  }
};

TEST_F(EmulatedNcclFailure, InTheBackgroundEndsTheGroup) {
  on_ranks([](const Communicator& host, bool is_last) {
    const DeviceCommunicator group = DeviceCommunicator::nccl(host, deadline);
    DeviceValues values({1.0, 2.0});
    group.all_reduce(values.data(), 2, values.stream());
    group.synchronize(values.stream());
    if (is_last) {
      emulated::plant({.function = "CommGetAsyncError",
                       .rank = host.rank(),
                       .code = ncclRemoteError,
                       .details = "the cable is cut"});
      std::this_thread::sleep_for(400ms);  // the watchdog looks every 100 ms
    }
    const std::string message = failure_of<CommError>([&] {
      group.all_reduce(values.data(), 2, values.stream());
      group.synchronize(values.stream());
    });
    if (is_last) {
      EXPECT_THAT(message, AllOf(HasSubstr("NCCL failed: remote process exited"),
                                 HasSubstr("the cable is cut")));
    } else {
      EXPECT_THAT(message, HasSubstr("within 1 s"));
    }
    EXPECT_THAT(failure_of<CommError>([&] { group.poll(); }), HasSubstr("unusable"));
  });
}

TEST_F(EmulatedNcclFailure, OfACallIsToldByItAndAtTheDeadlineToTheOthers) {
  on_ranks([](const Communicator& host, bool is_last) {
    const DeviceCommunicator group = DeviceCommunicator::nccl(host, deadline);
    DeviceValues values({1.0, 2.0});
    group.all_reduce(values.data(), 2, values.stream());
    group.synchronize(values.stream());
    if (is_last) {
      emulated::plant({.function = "AllReduce",
                       .rank = host.rank(),
                       .code = ncclSystemError,
                       .details = "no more sockets"});
    }
    EXPECT_THAT(
        failure_of<CommError>([&] {
          group.all_reduce(values.data(), 2, values.stream());
          group.synchronize(values.stream());
        }),
        is_last ? HasSubstr("(unhandled system error: no more sockets)") : HasSubstr("within 1 s"));
    cuda::StreamView(values.stream()).synchronize();
    EXPECT_TRUE(is_last || std::isnan(values.read()[0]));
  });
}

TEST_F(EmulatedNcclFailure, ToMakeAnIdIsToldToAllRanks) {
  test::on_ranks([](const Communicator& host) {
    if (host.rank() == 0) {
      emulated::plant({.function = "GetUniqueId", .details = "no interface is up"});
    }
    EXPECT_THAT(failure_of<CommError>([&] { DeviceCommunicator::nccl(host, deadline); }),
                AllOf(HasSubstr("making a unique id"), HasSubstr("unhandled system error")));
  });
}

TEST_F(EmulatedNcclFailure, OfOneRankToSetUpEndsThatOfTheOthersAtTheDeadline) {
  on_ranks([](const Communicator& host, bool is_last) {
    if (is_last) {
      emulated::plant({.function = "CommInitRankConfig",
                       .rank = host.rank(),
                       .code = ncclUnhandledCudaError,
                       .details = "out of memory"});
    }
    EXPECT_THAT(failure_of<CommError>([&] { DeviceCommunicator::nccl(host, deadline); }),
                is_last ? HasSubstr("unhandled cuda error: out of memory")
                        : HasSubstr("not done making a communicator within 1 s"));
  });
}

TEST_F(EmulatedNcclFailure, ToSplitLeavesNothingBehind) {
  on_ranks([](const Communicator& host, bool is_last) {
    Comm comm = make_comm(host, deadline);
    if (is_last) {
      emulated::plant({.function = "CommSplit",
                       .rank = host.rank(),
                       .code = ncclInternalError,
                       .details = "no memory for it"});
    }
    EXPECT_THAT(failure_of<CommError>([&] { comm.split(0); }),
                is_last ? HasSubstr("no memory for it")
                        : HasSubstr("not done splitting a communicator within 1 s"));
  });
}

// The rank's values are not in the sum, so fingerprints do not add up to what equal ones have.
TEST_F(EmulatedNcclFailure, ThatDropsARanksSumEndsInNaNs) {
  on_ranks([](const Communicator& host, bool is_last) {
    const DeviceCommunicator group = DeviceCommunicator::nccl(host, deadline);
    DeviceValues values({1.0, 2.0});
    group.all_reduce(values.data(), 2, values.stream());
    group.synchronize(values.stream());
    if (is_last) {
      emulated::plant({.function = "AllReduce", .rank = host.rank(), .code = ncclSuccess});
    }
    EXPECT_THAT(failure_of<CommError>([&] {
                  group.all_reduce(values.data(), 2, values.stream());
                  group.synchronize(values.stream());
                }),
                is_last ? HasSubstr("no rank is missing") : HasSubstr("within 1 s"));
    cuda::StreamView(values.stream()).synchronize();
    EXPECT_TRUE(std::isnan(values.read()[0]));
  });
}

/// Makes a communicator of one rank, to fail by itself.
Comm make_comm_of_one(Deadlines deadlines) {
  return Comm(share_unique_id(Communicator::self()), 0, 1, deadlines);
}

TEST_F(EmulatedNcclFailure, OfACallInProgressIsToldByIt) {
  Comm comm = make_comm_of_one(20s);
  const DeviceValues values({1.0});
  emulated::plant(
      {.function = "CommGetAsyncError", .code = ncclRemoteError, .details = "no route"});
  const auto sum = [&] { comm.all_reduce(values.data(), 1, values.stream()); };
  EXPECT_THAT(failure_of<CommError>(sum),
              AllOf(HasSubstr("putting a sum on a stream"), HasSubstr("no route")));
  EXPECT_THAT(failure_of<CommError>(sum), HasSubstr("the communicator has been aborted"));
}

TEST_F(EmulatedNcclFailure, ToTellTheStateIsTrouble) {
  Comm comm = make_comm_of_one(20s);
  emulated::plant({.function = "CommGetAsyncError()", .details = "gone"});
  EXPECT_THAT(comm.trouble(), HasSubstr("NCCL failed: unhandled system error: gone"));
  EXPECT_EQ(comm.trouble(), "");
  const DeviceValues values({1.0});
  emulated::plant({.function = "CommGetAsyncError()", .details = "gone"});
  EXPECT_THAT(failure_of<CommError>([&] { comm.all_reduce(values.data(), 1, values.stream()); }),
              HasSubstr("gone"));
}

TEST_F(EmulatedNcclFailure, ToGetOnIsReportedAndEndsAtTheDeadline) {
  const Reports reports;
  Comm comm = make_comm_of_one(Deadlines(400ms, 100ms));
  const DeviceValues values({1.0});
  emulated::plant({.function = "CommGetAsyncError", .code = ncclInProgress});
  EXPECT_THAT(failure_of<CommError>([&] { comm.all_reduce(values.data(), 1, values.stream()); }),
              HasSubstr("NCCL was not done putting a sum on a stream within 0.4 s"));
  EXPECT_THAT(reports.all(), testing::ElementsAre(HasSubstr("rank 0: NCCL was not done putting a "
                                                            "sum on a stream within 0.1 s")));
}

TEST_F(EmulatedNcclFailure, ToTellAPartsRankEndsThePart) {
  Comm comm = make_comm_of_one(20s);
  emulated::plant({.function = "CommUserRank", .details = "who am I"});
  EXPECT_THAT(failure_of<CommError>([&] { comm.split(0); }), HasSubstr("who am I"));
  EXPECT_EQ(comm.split(0)->trouble(), "");
}

TEST_F(EmulatedNcclFailure, ToFinishIsReported) {
  for (const std::string function : {"CommFinalize", "CommDestroy", "CommAbort"}) {
    const Reports reports;
    {
      Comm comm = make_comm_of_one(20s);
      emulated::plant({.function = function, .details = "a proxy hangs"});
      if (function == "CommAbort") {
        comm.abort();
      }
    }
    EXPECT_THAT(reports.all(), testing::ElementsAre(HasSubstr("a proxy hangs"))) << function;
  }
}

TEST_F(EmulatedNcclFailure, ToFinishInTimeIsReported) {
  const Reports reports;
  {
    const Comm comm = make_comm_of_one(Deadlines(300ms, 200ms));
    emulated::plant({.function = "CommGetAsyncError", .code = ncclInProgress});
  }
  EXPECT_THAT(reports.all(), testing::Contains(HasSubstr("not done finishing a communicator "
                                                         "within 0.3 s")));
}

TEST_F(EmulatedNcclFailure, OfTheCallerDoesNotWaitForNccl) {
  const Reports reports;
  EXPECT_THROW(
      {
        const Comm comm = make_comm_of_one(20s);
        emulated::plant({.function = "CommFinalize", .details = "asked to finish"});
        throw std::runtime_error("something else");
      },
      std::runtime_error);
  EXPECT_THAT(reports.all(), testing::IsEmpty());
  EXPECT_EQ(emulated::planted("CommFinalize", 0), ncclSystemError) << "nobody has asked for it";
}

TEST_F(EmulatedNcclFailure, IsNotToldToTheRanksOfOneThatAborts) {
  on_ranks([](const Communicator& host, bool is_last) {
    Comm comm = make_comm(host);
    const DeviceValues values({1.0});
    cuda::StreamView(values.stream()).synchronize();
    if (is_last) {
      comm.abort();
      meet(host);
      EXPECT_THROW(comm.all_reduce(values.data(), 1, values.stream()), CommError);
      meet(host);
      return;
    }
    comm.all_reduce(values.data(), 1, values.stream());
    meet(host);
    std::this_thread::sleep_for(50ms);
    cuda::Event end;
    end.record(values.stream());
    EXPECT_FALSE(end.is_done()) << "the sum waits for the rank";
    EXPECT_EQ(comm.trouble(), "");
    meet(host);
    comm.abort();
    end.synchronize();
    EXPECT_EQ(values.read(), std::vector<double>{1.0}) << "no sum";
  });
}

}  // namespace
}  // namespace syncbn::comm::nccl
