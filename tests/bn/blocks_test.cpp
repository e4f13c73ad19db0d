// SPDX-License-Identifier: Apache-2.0

// Passes cut into blocks of channels give the bits of uncut ones, whatever the ranks hold (few
// channels last, which lie abreast when they are all there, up to rounding).

#include <algorithm>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "syncbn/batch_norm.hpp"
#include "syncbn/error.hpp"

#include "bn/record.hpp"
#include "kernels/kernels.hpp"
#include "support/failure.hpp"
#include "support/on_ranks.hpp"
#include "support/tensor.hpp"

namespace syncbn {
namespace {

using test::Tensor;
using testing::HasSubstr;

constexpr std::int64_t channels = 12;

struct Results {
  std::vector<double> values;
  std::int64_t retries = 0;
  std::int64_t exchanges = 0;  ///< of the second step

  void add(std::span<const double> more) { values.insert(values.end(), more.begin(), more.end()); }
  void add(const Tensor& tensor) {
    const Shape& shape = tensor.shape();
    for (std::int64_t n = 0; n < shape.n; ++n) {
      for (std::int64_t c = 0; c < shape.c; ++c) {
        for (std::int64_t s = 0; s < shape.s; ++s) {
          values.push_back(tensor.at(n, c, s));
        }
      }
    }
  }
};

/// Two steps, the second far from what the first made expected in one block. Rank r has r samples.
Results train(const Communicator& group, Layout layout, std::int64_t blocks) {
  BatchNorm layer(channels, group,
                  {.activation = Activation::leaky_relu(0.2), .channel_blocks = blocks});
  Results results;
  ForwardRecord record;
  for (int step = 0; step < 2; ++step) {
    const Shape shape{2 * group.rank() + (group.size() == 1 ? 3 : 0), channels, 40};
    const auto seed = static_cast<std::uint64_t>(10 * step + group.rank());
    Tensor x = Tensor::normal(DType::f32, shape, layout, seed, 0.5);
    const Tensor dy = Tensor::normal(DType::f32, shape, layout, seed + 100);
    for (std::int64_t n = 0; n < shape.n && step == 1; ++n) {
      for (std::int64_t s = 0; s < shape.s; ++s) {
        x.set(n, 7, s, x.at(n, 7, s) + 1e6);
      }
    }
    Tensor y(DType::f32, shape, layout), dx(DType::f32, shape, layout);
    const std::int64_t before = group.counters().exchanges;
    layer.forward(x.view(), y.view(), record);
    layer.backward(record, x.view(), dy.view(), dx.view());
    results.exchanges = group.counters().exchanges - before;
    results.add(y);
    results.add(dx);
  }
  results.add(layer.weight_grad());
  results.add(layer.running_mean());
  results.add(layer.running_var());
  results.retries = layer.pivot_retries();
  return results;
}

TEST(ChannelBlocks, DoNotChangeABit) {
  for (const Layout layout : {Layout::channels_first, Layout::channels_last}) {
    test::on_ranks([&](const Communicator& group) {
      const Results whole = train(group, layout, 1);
      EXPECT_GT(whole.retries, 0);
      for (const std::int64_t blocks : {2, 5, 12, 100}) {
        const Results cut = train(group, layout, blocks);
        if (layout == Layout::channels_first) {  // so few channels last lie abreast
          EXPECT_EQ(cut.values, whole.values) << blocks;
        } else {
          for (std::size_t i = 0; i < whole.values.size(); ++i) {
            ASSERT_NEAR(cut.values[i], whole.values[i], 1e-5 * (1 + std::abs(whole.values[i])));
          }
        }
        EXPECT_EQ(cut.retries, whole.retries);
        if (group.size() > 1) {  // the retried block once more
          EXPECT_GE(cut.exchanges, 2 * std::min(blocks, channels) + 1);
        }
      }
    });
  }
}

void expect_disagreement(BatchNorm& layer, const Tensor& x, Tensor& y, ForwardRecord& record) {
  const std::int64_t before = ForwardRecord::Impl::of(record).note.forward;
  EXPECT_THAT(test::failure_of<CommError>([&] { layer.forward(x.view(), y.view(), record); }),
              HasSubstr("the ranks disagree"));
  EXPECT_EQ(ForwardRecord::Impl::of(record).note.forward, before);
}

TEST(ChannelBlocks, MustBeTheSameOnAllRanks) {
  test::on_ranks([](const Communicator& group) {
    if (group.size() == 1) {
      return;
    }
    const std::int64_t blocks = group.rank() == 0 ? 1 : 2;
    BatchNorm layer(channels, group, {.channel_blocks = blocks});
    const Tensor x = Tensor::normal(DType::f32, {2, channels, 3}, Layout::channels_first, 1);
    Tensor y(DType::f32, x.shape(), x.layout());
    ForwardRecord record;
    expect_disagreement(layer, x, y, record);
  });
}

// Each rank knows all messages by then. That nothing is left behind shows when the group is gone
// and the next exchange comes.
TEST(ChannelBlocks, OfRanksThatDisagreeAreNamed) {
  test::on_ranks([](const Communicator& whole) {
    if (whole.size() == 1) {
      return;
    }
    {
      BatchNorm layer(channels, whole.split(0), {.name = "bn7", .channel_blocks = 4});
      const Tensor x = Tensor::normal(DType::f32, {2, channels, 3}, Layout::channels_first, 1);
      Tensor y(DType::f32, x.shape(), x.layout());
      ForwardRecord record;
      layer.forward(x.view(), y.view(), record);
      if (whole.rank() == 0) {
        layer.running_mean()[11] += 1;
      }
      expect_disagreement(layer, x, y, record);
      EXPECT_EQ(*layer.num_batches_tracked(), 1);
    }
    std::vector<double> one = {1};
    whole.all_reduce(one);
    EXPECT_EQ(one[0], whole.size());
  });
}

/// How many blocks each of four steps is cut into when none are asked for. Rank 0 has all samples.
std::vector<std::int64_t> chosen_blocks(const Communicator& group, const Shape& shape,
                                        Layout layout) {
  const Shape own{group.rank() == 0 ? shape.n : 0, shape.c, shape.s};
  Tensor x(DType::f32, own, layout);
  BatchNorm layer(shape.c, group);
  ForwardRecord record;
  std::vector<std::int64_t> chosen;
  for (int step = 0; step < 4; ++step) {
    layer.forward(x.view(), x.view(), record);
    const std::int64_t blocks = ForwardRecord::Impl::of(record).note.blocks;
    const std::vector<double> of_all = group.all_gather(std::vector{static_cast<double>(blocks)});
    EXPECT_THAT(of_all, testing::Each(static_cast<double>(blocks)));
    chosen.push_back(blocks);
  }
  return chosen;
}

TEST(ChannelBlocks, AreChosenAlikeByAllRanks) {
  const std::int64_t cache = kernels::select(Backend::cpu).cache_bytes();
  const std::int64_t plane = cache / static_cast<std::int64_t>(4 * sizeof(float) * 16);
  const Shape beyond{4, 16, plane};  // x and y together are twice the cache
  test::on_ranks([&](const Communicator& group) {
    const std::vector<std::int64_t> chosen = chosen_blocks(group, beyond, Layout::channels_first);
    if (group.size() == 1) {  // else it depends on how fast messages are
      EXPECT_THAT(chosen, testing::Each(testing::Gt(1)));
    }
    EXPECT_THAT(chosen_blocks(group, beyond, Layout::channels_last), testing::Each(1));
    EXPECT_THAT(chosen_blocks(group, {4, 16, 100}, Layout::channels_first), testing::Each(1));
  });
}

TEST(ChannelBlocks, AreNotNegative) {
  EXPECT_THROW(BatchNorm(3, Communicator::self(), {.channel_blocks = -1}), InvalidArgument);
}

}  // namespace
}  // namespace syncbn
