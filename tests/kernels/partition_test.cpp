// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/partition.hpp"

#include <algorithm>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace syncbn::kernels::cpu {
namespace {

using testing::Each;

constexpr Extents long_planes[] = {{1, 1, 32},    {3, 5, 33},    {2, 100, 64},  {1, 1, 200000},
                                   {2, 3, 70001}, {300, 7, 100}, {9, 2048, 49}, {1, 33, 65537}};
constexpr Extents short_planes[] = {{1, 1, 1},     {5, 3, 1},      {1000, 3, 1},   {70000, 3, 1},
                                    {7, 31, 4},    {999, 127, 1},  {3, 2048, 1},   {1000, 513, 1},
                                    {5, 100, 31},  {30000, 16, 2}, {4000, 300, 1}, {100, 5000, 1},
                                    {33, 40000, 1}};

// All channels, or some in the middle.
ChannelRange channels_of(const Extents& extents, bool all) {
  return all ? ChannelRange{0, extents.channels}
             : ChannelRange{extents.channels / 3, (2 * extents.channels + 2) / 3};
}

void expect_every_element_in_one_block_of_planes(Purpose purpose, bool all) {
  for (const Extents& extents : long_planes) {
    const ChannelRange channels = channels_of(extents, all);
    std::vector<int> seen(static_cast<std::size_t>(extents.size()));
    const Planes planes(extents, channels, purpose);
    for (std::int64_t i = 0; i < planes.work().blocks; ++i) {
      const Planes::Block block = planes.block(i);
      if (purpose == Purpose::sums) {
        ASSERT_LE(block.channels.size(), Planes::max_channels);
      }
      for (std::int64_t row = block.rows.begin; row < block.rows.end; ++row) {
        for (std::int64_t c = block.channels.begin; c < block.channels.end; ++c) {
          for (std::int64_t s = block.plane.begin; s < block.plane.end; ++s) {
            ++seen[static_cast<std::size_t>(planes.index(row, c, s))];
          }
        }
      }
    }
    for (std::size_t i = 0; i < seen.size(); ++i) {  // of the channels that are not asked for, none
      const std::int64_t c = static_cast<std::int64_t>(i) / extents.plane % extents.channels;
      seen[i] += c >= channels.begin && c < channels.end ? 0 : 1;
    }
    EXPECT_THAT(seen, Each(1)) << extents.rows << " " << extents.channels << " " << extents.plane;
  }
}

TEST(PlanesTest, EveryElementIsInOneBlock) {
  for (const bool all : {true, false}) {
    expect_every_element_in_one_block_of_planes(Purpose::sums, all);
    expect_every_element_in_one_block_of_planes(Purpose::elements, all);
  }
}

TEST(PlanesTest, EveryChannelIsInEveryPartOnce) {
  for (const Extents& extents : long_planes) {
    const Planes planes(extents, {0, extents.channels}, Purpose::sums);
    std::vector<int> seen(static_cast<std::size_t>(planes.parts() * extents.channels));
    for (std::int64_t i = 0; i < planes.work().blocks; ++i) {
      const Planes::Block block = planes.block(i);
      for (std::int64_t c = block.channels.begin; c < block.channels.end; ++c) {
        ++seen[static_cast<std::size_t>(block.part * extents.channels + c)];
      }
    }
    EXPECT_THAT(seen, Each(1));
  }
}

void expect_every_element_in_one_block_of_columns(Purpose purpose, bool all) {
  for (const Extents& extents : short_planes) {
    const ChannelRange channels = channels_of(extents, all);
    std::vector<int> seen(static_cast<std::size_t>(extents.rows * channels.size() * extents.plane));
    const Columns columns(extents, channels, purpose);
    for (std::int64_t i = 0; i < columns.work().blocks; ++i) {
      const Columns::Block block = columns.block(i);
      for (std::int64_t row = block.rows.begin; row < block.rows.end; ++row) {
        const std::int64_t width = row < columns.full_rows() ? columns.width() : columns.rest();
        for (std::int64_t j = block.columns.begin; j < std::min(block.columns.end, width); ++j) {
          ++seen[static_cast<std::size_t>(row * columns.width() + j)];
        }
      }
    }
    EXPECT_THAT(seen, Each(1)) << extents.rows << " " << extents.channels << " " << extents.plane;
  }
}

TEST(ColumnsTest, EveryElementIsInOneBlock) {
  for (const bool all : {true, false}) {
    expect_every_element_in_one_block_of_columns(Purpose::sums, all);
    expect_every_element_in_one_block_of_columns(Purpose::elements, all);
  }
}

TEST(ColumnsTest, ARowIsWholeRowsOfTheTensorAndPadded) {
  for (const Extents& extents : short_planes) {
    const Columns columns(extents, {0, extents.channels}, Purpose::sums);
    EXPECT_EQ(columns.width() % (extents.channels * extents.plane), 0);
    EXPECT_EQ(columns.padded_width() % 64, 0);
    EXPECT_GE(columns.padded_width(), columns.width());
  }
}

TEST(ExtentsTest, AreTheSameForTheSameMemory) {
  const auto extents = [&](Shape shape, Layout layout) {
    const Extents of = extents_of(shape, layout);
    return std::vector<std::int64_t>{of.rows, of.channels, of.plane};
  };
  EXPECT_EQ(extents({4, 3, 1}, Layout::channels_first), extents({4, 3, 1}, Layout::channels_last));
  EXPECT_EQ(extents({2, 3, 2}, Layout::channels_last), extents({4, 3, 1}, Layout::channels_last));
  EXPECT_EQ(extents({3, 1, 4}, Layout::channels_first), extents({1, 1, 12}, Layout::channels_last));
}

}  // namespace
}  // namespace syncbn::kernels::cpu
