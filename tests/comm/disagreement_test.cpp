// SPDX-License-Identifier: Apache-2.0
//
// Ranks that are not in the same exchange: every one of them must get an exception that says so.

#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "syncbn/error.hpp"

#include "comm/group/access.hpp"
#include "comm/group/group.hpp"
#include "support/failure.hpp"
#include "support/on_ranks.hpp"

namespace syncbn {
namespace {

using comm::Descriptor;
using comm::Operation;
using testing::AllOf;
using testing::Each;
using testing::HasSubstr;

constexpr Descriptor bn1{Operation::forward, "bn1", 4, DType::f32, 1};

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

TEST(Disagreement, OtherLayerAtFirstUse) {
  Descriptor bn2 = bn1;
  bn2.layer = "bn2";
  expect_diagnosis({}, bn1, bn2, {"'bn1'", "'bn2'", "same layers"});
}

TEST(Disagreement, OtherLayerLater) {
  Descriptor bn2 = bn1;
  bn2.layer = "bn2";
  expect_diagnosis({bn1, bn2, bn1}, bn1, bn2, {"'bn1'", "'bn2'", "#4"});
}

TEST(Disagreement, OtherPass) {
  Descriptor backward = bn1;
  backward.operation = Operation::backward;
  expect_diagnosis({bn1}, bn1, backward, {"forward of 'bn1'", "backward of 'bn1'"});
}

TEST(Disagreement, OtherDType) {
  Descriptor half = bn1;
  half.dtype = DType::f16;
  expect_diagnosis({bn1}, bn1, half, {"f32", "f16"});
}

TEST(Disagreement, OtherSharedState) {
  Descriptor drifted = bn1;
  drifted.shared = 2;
  expect_diagnosis({bn1}, bn1, drifted, {"running mean", "'bn1'"});
}

TEST(Disagreement, OtherNumberOfChannelsAtFirstUse) {
  test::on_ranks([](const Communicator& group) {
    if (group.size() == 1) {
      return;
    }
    const bool odd = group.rank() == 0;
    const Descriptor what{Operation::forward, "bn1", odd ? 8 : 4, DType::f32, 1};
    EXPECT_THAT(failure_of(group, what, odd ? 17 : 9),
                AllOf(HasSubstr("C=8"), HasSubstr("C=4"), HasSubstr("rank 0: exchange")));
  });
}

TEST(Disagreement, OtherNumberOfChannelsLater) {
  test::on_ranks([](const Communicator& group) {
    if (group.size() == 1) {
      return;
    }
    const Descriptor wide{Operation::forward, "bn2", 8, DType::f32, 1};
    ASSERT_EQ(failure_of(group, bn1), "");
    ASSERT_EQ(failure_of(group, wide, 17), "");
    const bool odd = group.rank() == 0;
    EXPECT_THAT(failure_of(group, odd ? wide : bn1, odd ? 17 : 9),
                AllOf(HasSubstr("C=8"), HasSubstr("C=4"), HasSubstr("rank 0: exchange #3")));
  });
}

}  // namespace
}  // namespace syncbn
