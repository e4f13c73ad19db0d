// SPDX-License-Identifier: Apache-2.0
//
// Hosts of devices whose sums go wrong. The devices are simulated: their kernels run here, and
// their sum is that of another communicator, which does not see what the values mean.

#include "comm/device/agreement.hpp"

#include <chrono>
#include <cmath>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "syncbn/error.hpp"

#include "comm/deliveries.hpp"
#include "comm/device/cuda/stamp.hpp"
#include "support/failure.hpp"
#include "support/on_ranks.hpp"

namespace syncbn::comm {
namespace {

using test::apples;
using test::pears;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

class Device {
 public:
  explicit Device(const Communicator& bootstrap)
      : wire_(bootstrap.split(0)), agreement_(bootstrap, board_) {}

  Agreement& agreement() { return agreement_; }
  Board& board() { return board_; }

  /// As a program does it: returns without knowing what became of it.
  std::vector<double> sum(const Descriptor& what, std::size_t length,
                          const std::uint64_t* state = nullptr) {
    agreement_.poll();
    return run(agreement_.admit(what, length), length, state);
  }
  /// As a graph does it, without the host.
  std::vector<double> run(const Agreement::Plan& plan, std::size_t length,
                          const std::uint64_t* state = nullptr) {
    std::vector<double> values(length + fingerprint_words, 1.0);
    const cuda::Stamped message{plan.fingerprint, plan.number, values.data() + length,
                                &tally_,          &board_,     state};
    cuda::Stamp{message}();
    wire_.all_reduce(values);
    const cuda::Verify verify{message, values.data(), length, wire_.size()};
    for (std::size_t thread = 0; thread < cuda::Verify::threads; ++thread) {
      verify(thread);
    }
    values.resize(length);
    return values;
  }

 private:
  Communicator wire_;
  Board board_{};
  cuda::Tally tally_{};
  Agreement agreement_;
};

std::string failure_of(Device& device) {
  return test::failure_of<CommError>([&] { device.agreement().poll(); });
}

/// Ranks in pairs and more: a single one agrees with itself.
template <class Body>
void on_several_ranks(Body body, std::chrono::milliseconds timeout = test::patience) {
  test::on_ranks(
      [&](const Communicator& group) {
        if (group.size() > 1) {
          body(group, group.rank() == group.size() - 1);
        }
      },
      timeout);
}

TEST(Agreement, RanksThatAgreeHearNothing) {
  test::on_ranks([](const Communicator& group) {
    Device device(group);
    const double ranks = group.size();
    for (int step = 0; step < 3; ++step) {
      EXPECT_EQ(device.sum(apples, 9), std::vector<double>(9, ranks));
      EXPECT_EQ(device.sum(pears, 9), std::vector<double>(9, ranks));
      Descriptor with_state = apples;
      with_state.facts[0] = static_cast<std::uint64_t>(step);
      EXPECT_EQ(device.sum(with_state, 9), std::vector<double>(9, ranks));
    }
    EXPECT_EQ(failure_of(device), "");
  });
}

TEST(Agreement, OnlyTheFirstOfAKindWaitsForTheOtherHosts) {
  test::on_ranks([](const Communicator& group) {
    Device device(group);
    device.sum(apples, 9);
    const std::int64_t before = group.counters().exchanges;
    Descriptor next_step = apples;
    next_step.facts[0] = 5;
    device.sum(next_step, 9);
    device.sum(apples, 9);
    device.agreement().poll();
    EXPECT_EQ(group.counters().exchanges, before);
    device.sum(apples, 10);
    EXPECT_EQ(group.counters().exchanges, before + (group.size() > 1 ? 1 : 0));
  });
}

TEST(Agreement, AnotherSubjectAtItsFirstUseIsRefused) {
  on_several_ranks([](const Communicator& group, bool last) {
    Device device(group);
    const std::string message =
        test::failure_of<CommError>([&] { device.agreement().admit(last ? pears : apples, 9); });
    EXPECT_THAT(message, AllOf(HasSubstr("'apples'"), HasSubstr("'pears'"),
                               HasSubstr("deliver the same goods")));
    EXPECT_THAT(failure_of(device), AllOf(HasSubstr("unusable"), HasSubstr("'pears'")));
  });
}

TEST(Agreement, AnotherLengthAtItsFirstUseIsRefused) {
  on_several_ranks([](const Communicator& group, bool last) {
    Device device(group);
    EXPECT_THAT(
        test::failure_of<CommError>([&] { device.agreement().admit(apples, last ? 10 : 9); }),
        HasSubstr("different lengths"));
  });
}

TEST(Agreement, AnotherSubjectLaterIsPoisonedAndToldByTheNextCall) {
  on_several_ranks([](const Communicator& group, bool last) {
    Device device(group);
    device.sum(apples, 9);
    device.sum(pears, 9);
    EXPECT_TRUE(std::isnan(device.sum(last ? pears : apples, 9)[8]));
    const std::string message = test::failure_of<CommError>([&] { device.sum(apples, 9); });
    EXPECT_THAT(message,
                AllOf(HasSubstr("'apples'"), HasSubstr("'pears'"), HasSubstr("exchange #3"),
                      HasSubstr("rank " + std::to_string(group.size() - 1) + ":")));
    EXPECT_THAT(test::failure_of<CommError>([&] { device.sum(apples, 9); }),
                HasSubstr("an earlier sum failed"));
  });
}

TEST(Agreement, OtherStateIsToldByTheNextCall) {
  on_several_ranks([](const Communicator& group, bool last) {
    Device device(group);
    device.sum(apples, 9);
    Descriptor of_step = apples;
    of_step.facts[0] = last ? 5 : 4;
    EXPECT_TRUE(std::isnan(device.sum(of_step, 9)[0]));
    EXPECT_THAT(failure_of(device), AllOf(HasSubstr("price list no. 5"),
                                          HasSubstr("Give every rank the same price list")));
  });
}

TEST(Agreement, OtherStateOnTheDeviceIsToldByTheNextCall) {
  on_several_ranks([](const Communicator& group, bool last) {
    Device device(group);
    Descriptor what = apples;
    what.facts[0] = 7;
    const std::uint64_t stock = last ? 12 : 11;
    EXPECT_TRUE(std::isnan(device.sum(what, 9, &stock)[0]));
    EXPECT_THAT(failure_of(device), AllOf(HasSubstr("stock no. 11"), HasSubstr("stock no. 12"),
                                          HasSubstr("Count the stock"), Not(HasSubstr("price"))));
  });
}

TEST(Agreement, AReplayTooManyIsToldWithItsNumber) {
  on_several_ranks([](const Communicator& group, bool last) {
    Device device(group);
    const Agreement::Plan one = device.agreement().admit(apples, 9);
    const Agreement::Plan other = device.agreement().admit(pears, 9);
    device.run(one, 9);
    device.run(last ? one : other, 9);  // replays of a graph: the hosts see nothing of it
    device.run(last ? other : one, 9);
    EXPECT_THAT(failure_of(device),
                AllOf(HasSubstr("exchange #2"), HasSubstr("'apples'"), HasSubstr("'pears'")));
  });
}

TEST(Agreement, AMissingRankIsNamedAfterADeadline) {
  on_several_ranks(
      [](const Communicator& group, bool last) {
        Device device(group);
        device.sum(apples, 9);
        if (last) {
          std::this_thread::sleep_for(std::chrono::seconds(12));
          return;
        }
        post(device.board().started, 2);  // and nothing comes of it
        std::thread watchdog([&] { device.agreement().fail("not finished within 2 s"); });
        watchdog.join();
        EXPECT_TRUE(device.agreement().failed());
        EXPECT_THAT(failure_of(device),
                    AllOf(HasSubstr("delivery of 'apples'"), HasSubstr("not finished within 2 s"),
                          HasSubstr("rank " + std::to_string(group.size() - 1) + " did not come")));
        EXPECT_THAT(failure_of(device), HasSubstr("unusable"));
      },
      std::chrono::seconds(4));
}

TEST(Agreement, RanksThatAllWaitAreToldThatNobodyIsMissing) {
  on_several_ranks([](const Communicator& group, bool) {
    Device device(group);
    device.sum(apples, 9);
    device.agreement().fail("not finished within 2 s");
    device.agreement().fail("something that follows from it");
    EXPECT_THAT(failure_of(device), AllOf(HasSubstr("no rank is missing"), HasSubstr("2 s"),
                                          Not(HasSubstr("follows"))));
  });
}

// Whoever is in trouble meets a rank that has gone on to something new.
TEST(Agreement, ARankThatBeginsSomethingElseLearnsOfTheTrouble) {
  on_several_ranks([](const Communicator& group, bool last) {
    Device device(group);
    device.sum(apples, 9);
    const std::string message = test::failure_of<CommError>([&] {
      if (last) {
        device.agreement().admit(pears, 9);
      } else {
        device.agreement().fail("not finished within 2 s");
        device.agreement().poll();
      }
    });
    EXPECT_THAT(message, AllOf(HasSubstr("'apples'"), HasSubstr("'pears'"),
                               HasSubstr("deliver the same goods")));
  });
}

}  // namespace
}  // namespace syncbn::comm
