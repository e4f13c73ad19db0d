// SPDX-License-Identifier: Apache-2.0
#include "comm/device/device_place.hpp"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "syncbn/error.hpp"

#include "comm/group/this_host.hpp"
#include "support/failure.hpp"
#include "support/on_ranks.hpp"

namespace syncbn::comm {
namespace {

using testing::AllOf;
using testing::HasSubstr;

std::string refusal(const Communicator& group, const DevicePlace& own) {
  return test::failure_of<InvalidArgument>([&] { require_own_device(group, own); });
}

TEST(DevicePlace, AnotherDeviceOrAnotherHostIsFine) {
  test::on_ranks([](const Communicator& group) {
    const std::string rank = std::to_string(group.rank());
    EXPECT_EQ(refusal(group, {"host", "0000:0" + rank + ":00.0"}), "");
    EXPECT_EQ(refusal(group, {"host " + rank, "0000:3b:00.0"}), "");
  });
}

TEST(DevicePlace, RanksThatShareOneAreNamedOnEveryRank) {
  test::on_ranks([](const Communicator& group) {
    if (group.size() == 1) {
      return;
    }
    const bool alone = group.rank() == 2;
    const std::string message = refusal(group, {"host", alone ? "0000:3b:00.0" : "0000:5e:00.0"});
    EXPECT_THAT(message, AllOf(HasSubstr(group.size() == 4 ? "ranks 0-1, 3 of 4" : "ranks 0-1 of"),
                               HasSubstr("0000:5e:00.0"), HasSubstr("staged")));
  });
}

TEST(DevicePlace, RanksMayShareOneIfAllOfThemDo) {
  test::on_ranks([](const Communicator& group) {
    EXPECT_EQ(refusal(group, {"host", "0000:3b:00.0", true}), "");
    const bool willing = group.rank() != group.size() - 1;
    EXPECT_EQ(refusal(group, {"host", "0000:3b:00.0", willing}) == "", group.size() == 1);
  });
}

TEST(DevicePlace, AHostHasAName) {
  EXPECT_NE(this_host(), "");
  EXPECT_EQ(this_host(), this_host());
}

}  // namespace
}  // namespace syncbn::comm
