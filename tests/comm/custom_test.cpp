// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "syncbn/communicator.hpp"
#include "syncbn/error.hpp"

#include "comm/group/access.hpp"
#include "comm/group/broadcast.hpp"
#include "comm/group/group.hpp"
#include "support/failure.hpp"
#include "support/on_ranks.hpp"

namespace syncbn {
namespace {

using testing::HasSubstr;

/// A communicator whose callback is another communicator's transport, counted.
Communicator wrap(const Communicator& inner, int& calls) {
  return Communicator::custom(inner.rank(), inner.size(), [inner, &calls](std::span<double> data) {
    ++calls;
    inner.all_reduce(data);
  });
}

TEST(CustomCommunicator, ExchangesThroughTheCallback) {
  test::on_ranks([](const Communicator& inner) {
    int calls = 0;
    const Communicator group = wrap(inner, calls);
    std::vector<double> data = {1, 2};
    group.all_reduce(data);
    EXPECT_EQ(data[1], 2 * inner.size());
    EXPECT_EQ(calls, inner.size() == 1 ? 0 : 2);
  });
}

TEST(CustomCommunicator, ACallbackThatDoesNotSumIsCaught) {
  // What a program gets that forgets the exchange: the negative control of the fingerprint.
  const Communicator group = Communicator::custom(0, 2, [](std::span<double>) {});
  std::vector<double> data = {1};
  EXPECT_THAT(test::failure_of<CommError>([&] { group.all_reduce(data); }),
              HasSubstr("did not add up"));
}

TEST(CustomCommunicator, GarbageFromTheCallbackIsToldToBeThat) {
  for (const double garbage : {-1.0, 0.5, 1e300, HUGE_VAL, std::nan("")}) {
    const Communicator group = Communicator::custom(
        0, 2, [garbage](std::span<double> data) { std::ranges::fill(data, garbage); });
    std::vector<double> data = {1};
    EXPECT_THAT(test::failure_of<CommError>([&] { group.all_reduce(data); }),
                HasSubstr("did not add up"))
        << garbage;
  }
}

// A sum that is right in the last eight values, the fingerprint's, and garbage before.
Communicator with_garbage(double garbage) {
  return Communicator::custom(0, 2, [garbage](std::span<double> data) {
    for (double& value : data.last(8)) {
      value *= 2;
    }
    std::ranges::fill(data.first(data.size() - 8), garbage);
  });
}

TEST(CustomCommunicator, BytesThatAreNoneAreRefused) {
  for (const double garbage : {-1.0, 0.5, 4294967296.0, HUGE_VAL, std::nan("")}) {
    std::array<std::byte, 5> bytes{};
    EXPECT_THROW(comm::broadcast(with_garbage(garbage), bytes), CommError) << garbage;
  }
}

TEST(CustomCommunicator, NumbersOfSamplesThatAreNoneAreRefused) {
  for (const double garbage : {-1e300, 0.5, 1e300, HUGE_VAL, -HUGE_VAL, std::nan("")}) {
    EXPECT_THROW(with_garbage(garbage).split_by_samples(8, 16), Error) << garbage;
  }
}

TEST(CustomCommunicator, RemembersALimitedNumberOfSubjects) {
  int calls = 0;
  const Communicator group = Communicator::custom(0, 2, [&](std::span<double> data) {
    ++calls;
    for (double& value : data) {
      value *= 2;
    }
  });
  std::vector<double> data = {0};
  const auto calls_for = [&](const std::string& subject) {
    const int before = calls;
    comm::Access::group(group).exchange({.subject = subject, .count = 1}, data);
    return calls - before;
  };
  EXPECT_EQ(calls_for("apples"), 2)
      << "the first message of a subject is preceded by a fingerprint";
  EXPECT_EQ(calls_for("apples"), 1);
  for (int i = 0; i < 10'000; ++i) {
    calls_for("another " + std::to_string(i));
  }
  EXPECT_EQ(calls_for("apples"), 2) << "as for a subject that was forgotten";
}

TEST(CustomCommunicator, AnExceptionBecomesACommErrorAndTheGroupUnusable) {
  const Communicator group = Communicator::custom(
      1, 2, [](std::span<double>) { throw std::runtime_error("the network is down"); });
  std::vector<double> data = {1};
  for (int call = 0; call < 2; ++call) {
    EXPECT_THAT(test::failure_of<CommError>([&] { group.all_reduce(data); }),
                HasSubstr("the network is down"));
  }
}

TEST(CustomCommunicator, WhateverIsThrownMakesTheGroupUnusable) {
  for (const bool standard : {true, false}) {
    int calls = 0;
    const Communicator group = Communicator::custom(0, 2, [&](std::span<double>) {
      ++calls;
      if (standard) {
        throw std::runtime_error("");
      }
      throw 42;
    });
    std::vector<double> data = {1};
    EXPECT_THROW(group.all_reduce(data), CommError);
    EXPECT_THROW(group.all_reduce(data), CommError);
    EXPECT_EQ(calls, 1);
  }
}

TEST(CustomCommunicator, CannotBeSplit) {
  test::on_ranks([](const Communicator& inner) {
    int calls = 0;
    const Communicator group = wrap(inner, calls);
    if (inner.size() == 1) {
      EXPECT_EQ(group.split(0).size(), 1);
    } else {
      EXPECT_THROW(group.split(0), NotConfigured);
    }
  });
}

TEST(CustomCommunicator, BadRanksAndEmptyCallbacksAreRefused) {
  const Communicator::AllReduce sum = [](std::span<double>) {};
  EXPECT_THROW(Communicator::custom(2, 2, sum), InvalidArgument);
  EXPECT_THROW(Communicator::custom(-1, 2, sum), InvalidArgument);
  EXPECT_THROW(Communicator::custom(0, 0, sum), InvalidArgument);
  EXPECT_THROW(Communicator::custom(0, 1, nullptr), InvalidArgument);
}

}  // namespace
}  // namespace syncbn
