// SPDX-License-Identifier: Apache-2.0
//
// A framework's own collective as the sum of device memory. The host emulates every rank's device:
// its streams are threads, on which the collective meets the other ranks'.

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <latch>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <span>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "syncbn/device_communicator.hpp"
#include "syncbn/error.hpp"

#include "comm/deliveries.hpp"
#include "comm/device/device_message.hpp"
#include "comm/device/device_sum.hpp"
#include "comm/group/access.hpp"
#include "cuda/emulated.hpp"
#include "cuda/emulated_stream.hpp"
#include "support/failure.hpp"
#include "support/on_ranks.hpp"

namespace syncbn {
namespace {

using namespace std::chrono_literals;
using comm::Descriptor;
using comm::DeviceMessage;
using test::apples;
using test::pears;
using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr int size = 3;

/// Values in the memory of the emulated device, where the test reads and writes them as its own.
class DeviceValues {
 public:
  DeviceValues(std::size_t count, double value)
      : owner_(allocate_device_memory(count * sizeof(double))),
        values_(static_cast<double*>(owner_.get()), count) {
    std::ranges::fill(values_, value);
  }
  double* data() { return values_.data(); }
  std::size_t size() const { return values_.size(); }
  double operator[](std::size_t i) const { return values_[i]; }
  std::vector<double> get() const { return {values_.begin(), values_.end()}; }

 private:
  std::shared_ptr<void> owner_;
  std::span<double> values_;
};

/// The collective of a framework: ranks' streams meet in it, and wait without an end.
class Wire {
 public:
  void sum(int rank, std::span<double> values) {
    std::unique_lock lock(mutex_);
    Round& round = rounds_[turns_[static_cast<std::size_t>(rank)]++];
    round.sum.resize(std::max(round.sum.size(), values.size()), 0.0);
    for (std::size_t i = 0; i < values.size(); ++i) {
      round.sum[i] += values[i];
    }
    round.came += 1;
    changed_.notify_all();
    changed_.wait(lock, [&] { return round.came == size || is_cut_.contains(rank); });
    if (round.came == size) {
      std::copy_n(round.sum.begin(), values.size(), values.begin());
    }
  }
  /// Ends all sums of a rank, whoever is missing.
  void cut(int rank) {
    const std::scoped_lock lock(mutex_);
    is_cut_.insert(rank);
    changed_.notify_all();
  }

 private:
  struct Round {
    std::vector<double> sum;
    int came = 0;
  };

  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<int, Round> rounds_;
  std::vector<int> turns_ = std::vector<int>(size, 0);
  std::set<int> is_cut_;
};

/// Whether the framework can end its sums.
enum class Ends : bool { no, yes };

/// One rank: what it has of the framework, and its group.
struct Rank {
  Rank(const Communicator& ranks, Wire& to, Deadlines deadlines, Ends ends)
      : host(ranks), wire(to) {
    const auto all_reduce = [this](double* values, std::size_t count, CudaStream on) {
      counts.push_back(count);
      if (throws) {
        throw std::runtime_error("the framework is down");
      }
      on->put([this, values, count] { wire.sum(host.rank(), {values, count}); });
    };
    DeviceCommunicator::Abort abort;
    if (ends == Ends::yes) {
      abort = [this] {
        ++aborts;
        wire.cut(host.rank());
      };
    }
    group = std::make_unique<DeviceCommunicator>(
        DeviceCommunicator::custom(host, all_reduce, deadlines, abort));
  }

  Communicator host;
  Wire& wire;
  std::vector<std::size_t> counts;  ///< of the callback's calls
  bool throws = false;
  std::atomic<int> aborts{0};
  std::unique_ptr<DeviceCommunicator> group;
  std::deque<DeviceMessage> messages;
  CUstream_st stream;  ///< destroyed first, when what was put there is done

  /// Sums a layer's message of `length` ones and returns what the stream makes of it.
  std::vector<double> sum(const Descriptor& what, std::size_t length,
                          const std::uint64_t* state = nullptr) {
    const DeviceMessage& message = messages.emplace_back(length);
    std::fill_n(message.data(), length, 1.0);
    comm::Access::sum(*group).all_reduce(what, message.first(length, state), &stream);
    stream.synchronize();
    return {message.data(), message.data() + length};
  }
};

/// Runs `body` on threads as ranks, each with its part of one wire.
void on_framework(const std::function<void(Rank&)>& body, Deadlines deadlines = 30s,
                  Deadlines of_host = 30s, Ends ends = Ends::yes) {
  Wire wire;
  std::vector<Communicator> hosts = Communicator::threads(size, of_host);
  std::vector<std::thread> ranks;
  for (Communicator& host : hosts) {
    ranks.emplace_back([&wire, &body, deadlines, ends, host = std::move(host)] {
      Rank rank(host, wire, deadlines, ends);
      body(rank);
    });
  }
  hosts.clear();
  for (std::thread& rank : ranks) {
    rank.join();
  }
}

TEST(CustomDeviceCommunicator, SumsInTheCallersMemory) {
  on_framework([](Rank& rank) {
    EXPECT_EQ(rank.group->rank(), rank.host.rank());
    EXPECT_EQ(rank.group->size(), size);
    for (const std::size_t length : {1, 129, 5000, 129}) {
      DeviceValues values(length + 1, rank.host.rank() + 1.0);
      rank.group->all_reduce(values.data(), length, &rank.stream);
      rank.group->synchronize(&rank.stream);
      EXPECT_EQ(values[0], 6.0);
      EXPECT_EQ(values[length - 1], 6.0);
      EXPECT_EQ(values[length], rank.host.rank() + 1.0) << "behind the message";
    }
    EXPECT_EQ(rank.counts[2], 129U);
    EXPECT_EQ(rank.counts[3], comm::fingerprint_words);
    EXPECT_EQ(rank.aborts, 0);
  });
}

TEST(CustomDeviceCommunicator, SumsALayersMessageInOneCall) {
  on_framework([](Rank& rank) {
    EXPECT_EQ(rank.sum(apples, 9), std::vector<double>(9, size));
    EXPECT_EQ(rank.sum(apples, 9), std::vector<double>(9, size));
    EXPECT_EQ(rank.counts, std::vector<std::size_t>(2, 9 + comm::fingerprint_words));
    EXPECT_EQ(test::failure_of<CommError>([&] { rank.group->poll(); }), "");
  });
}

TEST(CustomDeviceCommunicator, SumsOnStreamsThatWaitForEachOther) {
  on_framework([](Rank& rank) {
    CUstream_st other;
    DeviceValues one(100, 1.0);
    DeviceValues two(100, 2.0);
    for (int turn = 0; turn < 3; ++turn) {
      rank.group->all_reduce(one.data(), one.size(), &rank.stream);
      rank.stream.synchronize();
      rank.group->all_reduce(two.data(), two.size(), &other);
      other.synchronize();
    }
    rank.group->poll();
    EXPECT_EQ(one.get(), std::vector<double>(100, 27.0));
    EXPECT_EQ(two.get(), std::vector<double>(100, 54.0));
  });
}

TEST(CustomDeviceCommunicator, RefusesAnotherLayerAtItsFirstUse) {
  on_framework([](Rank& rank) {
    const bool differs = rank.host.rank() == 1;
    EXPECT_THAT(test::failure_of<CommError>([&] { rank.sum(differs ? pears : apples, 9); }),
                AllOf(HasSubstr("'apples'"), HasSubstr("rank 1: exchange #1, delivery of 'pears'"),
                      HasSubstr("deliver the same goods")));
    EXPECT_THAT(rank.counts, IsEmpty()) << "nothing is put on the stream";
  });
}

TEST(CustomDeviceCommunicator, PoisonsAnotherLayerLaterAndTellsWhoAndWhat) {
  on_framework([](Rank& rank) {
    rank.sum(apples, 9);
    rank.sum(pears, 9);
    const bool differs = rank.host.rank() == 2;
    EXPECT_TRUE(std::isnan(rank.sum(differs ? pears : apples, 9)[8]));
    EXPECT_THAT(test::failure_of<CommError>([&] { rank.group->poll(); }),
                AllOf(HasSubstr("exchange #3"), HasSubstr("rank 2:"), HasSubstr("'apples'"),
                      HasSubstr("'pears'")));
    EXPECT_THAT(test::failure_of<CommError>([&] { rank.sum(apples, 9); }),
                HasSubstr("an earlier sum failed"));
  });
}

TEST(CustomDeviceCommunicator, PoisonsOtherStateThatIsOnTheDevice) {
  on_framework([](Rank& rank) {
    const std::uint64_t state = rank.host.rank() == 0 ? 5 : 6;
    EXPECT_TRUE(std::isnan(rank.sum(apples, 9, &state)[0]));
    EXPECT_THAT(test::failure_of<CommError>([&] { rank.group->poll(); }),
                HasSubstr("Count the stock"));
  });
}

TEST(CustomDeviceCommunicator, MissesARankAtTheDeadlineAndAborts) {
  std::latch others(size - 1);
  on_framework(
      [&others](Rank& rank) {
        rank.sum(apples, 9);
        if (rank.host.rank() == 1) {
          others.wait();
          return;
        }
        std::vector<double> lost;
        const std::string message = test::failure_of<CommError>([&] {
          lost = rank.sum(apples, 9);  // the stream goes on at the deadline
          rank.group->synchronize(&rank.stream);
        });
        EXPECT_TRUE(std::isnan(lost.at(0)));
        EXPECT_THAT(message, AllOf(HasSubstr("delivery of 'apples'"), HasSubstr("within 3 s"),
                                   HasSubstr("rank 1 did not come")));
        EXPECT_EQ(rank.aborts, 1);
        EXPECT_THAT(test::failure_of<CommError>([&] { rank.group->poll(); }),
                    HasSubstr("unusable"));
        others.count_down();
      },
      3s, 4s);
}

TEST(CustomDeviceCommunicator, MissesARankAlthoughNothingCanEndTheSum) {
  std::latch others(size - 1);
  on_framework(
      [&others](Rank& rank) {
        rank.sum(apples, 9);
        if (rank.host.rank() == 1) {
          others.wait();
          return;
        }
        DeviceCommunicator& group = *rank.group;
        const DeviceMessage message(9);
        comm::Access::sum(group).all_reduce(apples, message.first(9), &rank.stream);
        EXPECT_THAT(test::failure_of<CommError>([&] { group.synchronize(&rank.stream); }),
                    AllOf(HasSubstr("within 3 s"), HasSubstr("rank 1 did not come")));
        EXPECT_EQ(rank.aborts, 0);
        rank.wire.cut(rank.host.rank());  // so that the stream can end
        rank.stream.synchronize();
        EXPECT_TRUE(std::isnan(message.data()[8]));
        others.count_down();
      },
      3s, 4s, Ends::no);
}

TEST(CustomDeviceCommunicator, TellsWhatTheCallbackThrew) {
  on_framework([](Rank& rank) {
    rank.sum(apples, 9);
    rank.throws = true;
    EXPECT_THAT(test::failure_of<CommError>([&] { rank.sum(apples, 9); }),
                HasSubstr("the framework is down"));
    EXPECT_EQ(rank.aborts, 1);
    EXPECT_THAT(test::failure_of<CommError>([&] { rank.sum(apples, 9); }), HasSubstr("unusable"));
  });
}

TEST(CustomDeviceCommunicator, NoticesACallbackThatDoesNotSum) {
  std::vector<Communicator> hosts = Communicator::threads(2, 30s);
  std::vector<std::thread> ranks;
  for (const Communicator& host : hosts) {
    ranks.emplace_back([host] {
      const DeviceCommunicator group =
          DeviceCommunicator::custom(host, [](double*, std::size_t, CudaStream) {});
      DeviceValues values(9, 1.0);
      group.all_reduce(values.data(), 9, nullptr);
      cuda::StreamView(nullptr).synchronize();
      EXPECT_TRUE(std::isnan(values[0]));
      EXPECT_THAT(test::failure_of<CommError>([&] { group.poll(); }), HasSubstr("did not add up"));
    });
  }
  for (std::thread& rank : ranks) {
    rank.join();
  }
}

TEST(CustomDeviceCommunicator, OfOneRankDoesNotCallItsCallback) {
  const DeviceCommunicator group = DeviceCommunicator::custom(
      Communicator::self(),
      [](double*, std::size_t, CudaStream) { throw std::runtime_error("called"); });
  DeviceValues values(2, 1.5);
  group.all_reduce(values.data(), 2, nullptr);
  group.split(3).all_reduce(values.data(), 2, nullptr);
  group.synchronize(nullptr);
  EXPECT_EQ(values.get(), std::vector<double>(2, 1.5));
}

TEST(CustomDeviceCommunicator, CannotBeSplit) {
  on_framework([](Rank& rank) { EXPECT_THROW(rank.group->split(0), NotConfigured); });
}

TEST(CustomDeviceCommunicator, NeedsACallback) {
  EXPECT_THROW(DeviceCommunicator::custom(Communicator::self(), nullptr), InvalidArgument);
}

}  // namespace
}  // namespace syncbn
