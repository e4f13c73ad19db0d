// SPDX-License-Identifier: Apache-2.0
//
// Ranks that are not in the same exchange: every one of them must get an exception that says so.

#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "syncbn/error.hpp"

#include "comm/deliveries.hpp"
#include "comm/group/access.hpp"
#include "comm/group/group.hpp"
#include "support/failure.hpp"
#include "support/on_ranks.hpp"

namespace syncbn {
namespace {

using comm::Descriptor;
using test::apples;
using test::pears;
using testing::AllOf;
using testing::Each;
using testing::HasSubstr;

/// What the exchange throws on this rank, "" if nothing.
std::string failure_of(const Communicator& group, const Descriptor& what, std::size_t length = 9) {
  std::vector<double> payload(length, 1.0);
  const std::string failure =
      test::failure_of<CommError>([&] { comm::Access::group(group).exchange(what, payload); });
  if (!failure.empty()) {
    EXPECT_THAT(payload, Each(1.0)) << "summed before all agreed";
  }
  return failure;
}

/// All ranks first agree on `before`; then the last rank does `odd`, the others `usual`.
void expect_diagnosis(const std::vector<Descriptor>& before, const Descriptor& usual,
                      const Descriptor& odd, const std::vector<std::string>& expected) {
  test::on_ranks([&](const Communicator& group) {
    if (group.size() == 1) {
      return;
    }
    for (const Descriptor& what : before) {
      ASSERT_EQ(failure_of(group, what), "");
    }
    const bool last = group.rank() == group.size() - 1;
    const std::string message = failure_of(group, last ? odd : usual);
    for (const std::string& part : expected) {
      EXPECT_THAT(message, HasSubstr(part)) << "on rank " << group.rank();
    }
    EXPECT_THAT(message, HasSubstr("rank " + std::to_string(group.size() - 1) + ": exchange"));

    EXPECT_THAT(failure_of(group, usual), AllOf(HasSubstr("unusable"), HasSubstr("earlier")));
  });
}

TEST(Disagreement, OtherSubjectAtFirstUse) {
  expect_diagnosis({}, apples, pears, {"'apples'", "'pears'", "deliver the same goods"});
}

TEST(Disagreement, OtherSubjectLater) {
  expect_diagnosis({apples, pears, apples}, apples, pears, {"'apples'", "'pears'", "#4"});
}

TEST(Disagreement, OtherOperation) {
  Descriptor other = apples;
  other.operation = &test::collection;
  expect_diagnosis({apples}, apples, other, {"delivery of 'apples'", "collection of 'apples'"});
}

TEST(Disagreement, OtherCallOfTheCommunicatorItself) {
  expect_diagnosis({}, apples, {.count = 9}, {"delivery of 'apples'", "all_reduce of 9 values"});
}

TEST(Disagreement, OtherDType) {
  Descriptor half = apples;
  half.dtype = DType::f16;
  expect_diagnosis({apples}, apples, half, {"f32", "f16"});
}

TEST(Disagreement, OtherOptions) {
  Descriptor cooled = apples;
  cooled.options = "cooled";
  expect_diagnosis({apples}, apples, cooled, {"with cooled", "Give 'apples' the same options"});
}

TEST(Disagreement, EachOtherFact) {
  for (std::size_t fact = 0; fact < comm::most_facts; ++fact) {
    Descriptor usual = apples, odd = apples;
    usual.facts = {3, 3, 3, 3};
    odd.facts = usual.facts;
    odd.facts[fact] = 2;
    const comm::FactWords& words = apples.operation->facts[fact];
    expect_diagnosis(
        {usual}, usual, odd,
        {"'apples'", std::string(words.name.view()), std::string(words.advice.view())});
  }
}

TEST(Disagreement, FactsThatTradeTheirValues) {
  Descriptor usual = apples, odd = apples;
  usual.facts = {1, 2, 3, 4};
  odd.facts = {1, 3, 2, 4};
  expect_diagnosis({}, usual, odd, {"2 carts, recipes no. 3", "3 carts, recipes no. 2"});
}

TEST(Disagreement, OtherCountAtFirstUse) {
  test::on_ranks([](const Communicator& group) {
    if (group.size() == 1) {
      return;
    }
    const bool odd = group.rank() == 0;
    const Descriptor what{&test::delivery, "apples", odd ? 8 : 4, DType::f32};
    EXPECT_THAT(failure_of(group, what, odd ? 17 : 9),
                AllOf(HasSubstr("crates=8"), HasSubstr("crates=4"), HasSubstr("rank 0: exchange")));
  });
}

TEST(Disagreement, OtherCountLater) {
  test::on_ranks([](const Communicator& group) {
    if (group.size() == 1) {
      return;
    }
    const Descriptor wide{&test::delivery, "pears", 8, DType::f32};
    ASSERT_EQ(failure_of(group, apples), "");
    ASSERT_EQ(failure_of(group, wide, 17), "");
    const bool odd = group.rank() == 0;
    EXPECT_THAT(
        failure_of(group, odd ? wide : apples, odd ? 17 : 9),
        AllOf(HasSubstr("crates=8"), HasSubstr("crates=4"), HasSubstr("rank 0: exchange #3")));
  });
}

}  // namespace
}  // namespace syncbn
