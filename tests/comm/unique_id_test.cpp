// SPDX-License-Identifier: Apache-2.0

// What needs no device.

#include "comm/nccl/unique_id.hpp"

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

#include <gtest/gtest.h>

#include "comm/group/packed_bytes.hpp"
#include "support/on_ranks.hpp"

namespace syncbn::comm::nccl {
namespace {

TEST(UniqueId, IsTheSameOnAllRanksAndAnotherEachTime) {
  test::on_ranks([](const Communicator& group) {
    const ncclUniqueId first = share_unique_id(group);
    const ncclUniqueId second = share_unique_id(group);
    const auto bytes = [](const ncclUniqueId& id) { return std::as_bytes(std::span(id.internal)); };
    EXPECT_FALSE(std::ranges::equal(bytes(first), bytes(second)));

    std::vector<double> mine(words_of_bytes(sizeof first.internal));
    pack_bytes(bytes(first), mine);
    const std::vector<double> all = group.all_gather(mine);
    for (std::size_t i = 0; i < all.size(); ++i) {
      EXPECT_EQ(all[i], mine[i % mine.size()]);
    }
  });
}

}  // namespace
}  // namespace syncbn::comm::nccl
