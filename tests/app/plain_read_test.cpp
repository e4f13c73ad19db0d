// SPDX-License-Identifier: Apache-2.0
#include "app/bench/plain_read.hpp"

#include <cstring>
#include <vector>

#include <gtest/gtest.h>

namespace syncbn::app::bench {
namespace {

TEST(PlainRead, ReadsEveryByte) {
  for (const std::size_t size : {1, 7, 8, 9, 63, 64, 255, 256, 257, 1000, 4096 + 513}) {
    std::vector<std::byte> data(size);
    for (std::size_t i = 0; i < size; ++i) {
      data[i] = static_cast<std::byte>(37 * i + i / 256);
    }
    std::vector<std::uint64_t> words((size + 7) / 8);
    std::uint64_t expected = 0;
    std::memcpy(words.data(), data.data(), size);
    for (const std::uint64_t word : words) {
      expected ^= word;
    }
    EXPECT_EQ(plain_read(data.data(), size), expected) << size << " bytes";
  }
}

}  // namespace
}  // namespace syncbn::app::bench
