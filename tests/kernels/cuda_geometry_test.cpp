// SPDX-License-Identifier: Apache-2.0

// Every element belongs to one thread of one block, and is known by its channel and its weight.

#include <algorithm>
#include <map>
#include <numeric>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/cuda/geometry.hpp"

namespace syncbn::kernels::cuda {
namespace {

using testing::Each;

// Calls body(index, channel, weight's index) for every element that a block visits.
template <class Walk, class Body>
void for_elements(const Walk& walk, std::int64_t block, Body body) {
  for (int thread = 0; thread < block_threads; ++thread) {
    auto steps = walk.steps(block, thread);
    while (steps.any()) {
      const auto step = steps.next();
      for (int i = step.lo; i < step.hi; ++i) {
        body(step.index + i, walk.channel(block, thread, i), steps.weight_place(step, i));
      }
      if (walk.even() && step.whole()) {
        ASSERT_EQ(step.index % Walk::vector, 0);
      }
    }
    ASSERT_EQ(steps.next().hi, 0);
  }
}

struct Place {
  std::int64_t channel;
  std::int64_t ordinal;  ///< among the channel's elements
};
Place place_of(const Extents& extents, std::int64_t index) {
  const std::int64_t s = index % extents.plane;
  const std::int64_t c = index / extents.plane % extents.channels;
  return {c, index / (extents.plane * extents.channels) * extents.plane + s};
}

constexpr Extents small[] = {
    {0, 3, 300}, {3, 5, 256},  {2, 3, 257},   {1, 1, 5000}, {7, 2, 2049}, {300, 2, 263},
    {0, 3, 1},   {1, 1, 1},    {1, 1, 255},   {5, 7, 1},    {9000, 3, 1}, {70, 8, 1},
    {3, 511, 1}, {3, 1024, 1}, {2, 5000, 1},  {40, 64, 49}, {3, 31, 4},   {3, 600, 2},
    {9, 2, 254}, {2, 2, 251},  {1, 2000, 31}, {33, 65, 1},  {4, 4097, 1},
};

template <int kVector>
void expect_every_element_once(Purpose purpose) {
  for (const Extents& extents : small) {
    SCOPED_TRACE(testing::Message() << extents.rows << "x" << extents.channels << "x"
                                    << extents.plane << " by " << kVector);
    visit_walk<kVector>(extents, purpose, [&](const auto& walk) {
      std::vector<int> seen(
          static_cast<std::size_t>(extents.rows * extents.channels * extents.plane));
      for (std::int64_t block = 0; block < walk.blocks(); ++block) {
        ASSERT_LT(walk.part(block), walk.parts());
        for_elements(walk, block,
                     [&](std::int64_t index, std::int64_t channel, std::int64_t weight) {
                       ++seen.at(static_cast<std::size_t>(index));
                       const Place place = place_of(extents, index);
                       ASSERT_EQ(channel, place.channel);
                       ASSERT_EQ(weight, place.ordinal);
                     });
      }
      EXPECT_THAT(seen, Each(1));
    });
  }
}

TEST(CudaGeometryTest, EveryElementIsVisitedOnce) {
  for (const Purpose purpose : {Purpose::sums, Purpose::tallies, Purpose::elements}) {
    expect_every_element_once<2>(purpose);
    expect_every_element_once<4>(purpose);
    expect_every_element_once<8>(purpose);
  }
}

// Of each channel that a block visits, which elements: a range, each of them once.
struct Part {
  std::int64_t first_channel;
  std::int64_t channels;
  std::int64_t begin;
  std::int64_t end;
};
template <class Walk>
Part part_of(const Walk& walk, const Extents& extents, std::int64_t block) {
  struct Seen {
    std::int64_t begin, end, count, sum;
  };
  std::map<std::int64_t, Seen> seen;
  for_elements(walk, block, [&](std::int64_t index, std::int64_t channel, std::int64_t weight) {
    const auto [c, ordinal] = place_of(extents, index);
    ASSERT_EQ(channel, c);
    ASSERT_EQ(weight, ordinal);
    Seen& of = seen.try_emplace(c, Seen{ordinal, ordinal + 1, 0, 0}).first->second;
    of.begin = std::min(of.begin, ordinal);
    of.end = std::max(of.end, ordinal + 1);
    ++of.count;
    of.sum += ordinal - seen.begin()->second.begin;
  });
  if (seen.empty()) {
    ADD_FAILURE() << "block " << block << " has no elements";
    return {};
  }
  const auto& [first, range] = *seen.begin();
  for (const auto& [c, of] : seen) {
    EXPECT_EQ(of.begin, range.begin);
    EXPECT_EQ(of.end, range.end);
    EXPECT_EQ(of.count, of.end - of.begin);
  }
  return {first, static_cast<std::int64_t>(seen.size()), range.begin, range.end};
}

// Indices beyond 2^31, in all axes: the first two parts of the first and the last channels, and the
// last ones.
TEST(CudaGeometryTest, TensorsMayBeLargerThan32BitsCount) {
  constexpr std::int64_t million = 1'000'000;
  for (const Extents& extents : {Extents{2, 3, 700 * million + 1}, Extents{9 * million, 2, 256},
                                 Extents{1, 1, 5000 * million}, Extents{3, 4 * million, 257},
                                 Extents{40 * million, 64, 1}, Extents{2100 * million, 5, 1},
                                 Extents{5, 30 * million, 49}, Extents{2, 2100 * million, 1}}) {
    for (const Purpose purpose : {Purpose::sums, Purpose::tallies, Purpose::elements}) {
      visit_walk<8>(extents, purpose, [&](const auto& walk) {
        SCOPED_TRACE(testing::Message() << extents.rows << "x" << extents.channels << "x"
                                        << extents.plane << ", " << walk.blocks() << " blocks");
        ASSERT_LT(walk.blocks(), std::int64_t{1} << 31);
        const std::int64_t abreast = walk.blocks() / walk.parts();  // blocks for one part
        const std::int64_t positions = extents.rows * extents.plane;
        for (const std::int64_t column : {std::int64_t{0}, abreast - 1}) {
          const Part first = part_of(walk, extents, column);
          EXPECT_EQ(first.begin, 0);
          if (walk.parts() > 1) {
            EXPECT_EQ(part_of(walk, extents, abreast + column).begin, first.end);
          }
          const Part last = part_of(walk, extents, walk.blocks() - abreast + column);
          EXPECT_EQ(last.end, positions);
          EXPECT_EQ(last.first_channel, first.first_channel);
          EXPECT_EQ(column == 0 ? first.first_channel : first.first_channel + first.channels,
                    column == 0 ? 0 : extents.channels);
        }
      });
    }
  }
}

// Integers are added in 64 bits.
TEST(CudaGeometryTest, AThreadTalliesNoMoreThanItCanAdd) {
  for (const Extents& extents : {Extents{1, 1, 5'000'000'000}, Extents{2'100'000'000, 5, 1},
                                 Extents{9'000'000, 2, 256}, Extents{50'000'000, 1, 49}}) {
    visit_walk<8>(extents, Purpose::tallies, [&]<class Walk>(const Walk& walk) {
      std::int64_t terms = 0;  // of a set
      for (auto steps = walk.steps(0, 0); steps.any(); steps.next()) {
        terms += Walk::vector / Walk::sets;
      }
      EXPECT_LE(terms, channels::addable);
      EXPECT_GE(terms, channels::addable / 2);
    });
  }
}

// What a device needs to be busy: blocks enough, threads that have something to do, and accesses
// that lie side by side.
TEST(CudaGeometryTest, CommonLayersFillTheDevice) {
  for (const Extents& extents :
       {Extents{64, 64, 12544}, Extents{64, 256, 3136}, Extents{64, 512, 784},
        Extents{256, 1024, 196}, Extents{256, 2048, 49}, Extents{64 * 3136, 256, 1},
        Extents{256 * 49, 2048, 1}, Extents{65536, 1000, 1}}) {
    visit_walk<8>(extents, Purpose::sums, [&](const auto& walk) {
      SCOPED_TRACE(testing::Message()
                   << extents.rows << "x" << extents.channels << "x" << extents.plane);
      EXPECT_GE(walk.blocks(), 400);
      EXPECT_LE(walk.blocks(), 2100);
      int busy = 0;
      for (int thread = 0; thread < block_threads; ++thread) {
        busy += walk.steps(0, thread).any() ? 1 : 0;
      }
      EXPECT_GE(busy, block_threads * 9 / 10);
    });
  }
}

TEST(CudaGeometryTest, ExtentsAreTheSameForTheSameMemory) {
  const auto extents = [](Shape shape, Layout layout) {
    const Extents of = extents_of(shape, layout);
    return std::vector<std::int64_t>{of.rows, of.channels, of.plane};
  };
  EXPECT_EQ(extents({4, 3, 1}, Layout::channels_first), extents({4, 3, 1}, Layout::channels_last));
  EXPECT_EQ(extents({2, 3, 2}, Layout::channels_last), extents({4, 3, 1}, Layout::channels_last));
  EXPECT_EQ(extents({3, 1, 4}, Layout::channels_first), extents({1, 1, 12}, Layout::channels_last));
}

}  // namespace
}  // namespace syncbn::kernels::cuda
