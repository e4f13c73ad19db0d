// SPDX-License-Identifier: Apache-2.0
#include "comm/group/broadcast.hpp"

#include <cstddef>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include "comm/group/packed_bytes.hpp"
#include "support/on_ranks.hpp"

namespace syncbn::comm {
namespace {

std::vector<std::byte> all_bytes(std::size_t count) {
  std::vector<std::byte> bytes(count);
  for (std::size_t i = 0; i < count; ++i) {
    bytes[i] = static_cast<std::byte>(255 - i % 256);
  }
  return bytes;
}

TEST(Broadcast, EveryRankHasRankZerosBytes) {
  test::on_ranks([](const Communicator& group) {
    for (const std::size_t count : {0, 1, 3, 4, 5, 128, 129, 1000}) {
      const std::vector<std::byte> expected = all_bytes(count);
      std::vector<std::byte> bytes =
          group.rank() == 0 ? expected : std::vector<std::byte>(count, std::byte{0x5a});
      broadcast(group, bytes);
      EXPECT_EQ(bytes, expected) << count << " bytes on rank " << group.rank();
    }
  });
}

TEST(PackedBytes, WordsBeyondTheBytesAreZeroAndBytesBeyondTheWordsAreLeftOut) {
  std::vector<double> words(3, std::numeric_limits<double>::quiet_NaN());
  pack_bytes(all_bytes(5), words);
  EXPECT_EQ(words[1], 255 - 4);
  EXPECT_EQ(words[2], 0);

  words.resize(1);
  pack_bytes(all_bytes(5), words);
  std::vector<std::byte> bytes(4);
  unpack_bytes(words, bytes);
  EXPECT_EQ(bytes, all_bytes(4));
}

}  // namespace
}  // namespace syncbn::comm
