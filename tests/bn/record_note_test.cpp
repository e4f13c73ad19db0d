// SPDX-License-Identifier: Apache-2.0
//
// A record taken apart, into memory and a note, and put together again.

#include <cstddef>
#include <cstdint>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "syncbn/batch_norm.hpp"
#include "syncbn/error.hpp"

#include "support/failure.hpp"
#include "support/on_ranks.hpp"
#include "support/tensor.hpp"

namespace syncbn {
namespace {

using test::Tensor;
using testing::HasSubstr;

constexpr Shape shape{.n = 4, .c = 5, .s = 6};

Tensor drawn(std::uint64_t seed) {
  return Tensor::normal(DType::f32, shape, Layout::channels_first, seed, 0.5);
}

TEST(RecordNote, WithItsMemoryServesABackward) {
  test::on_ranks([](const Communicator& ranks) {
    BatchNorm layer(shape.c, ranks, {.activation = Activation::leaky_relu(0.25)});
    const Tensor x = drawn(1), residual = drawn(2), dy = drawn(3);
    Tensor y = x, dx = x, dresidual = x, expected_dx = x, expected_dresidual = x;
    std::vector<double> memory(ForwardRecord::length(shape.c));
    ForwardRecord::Note note;
    {
      ForwardRecord record(memory.data(), shape.c);
      layer.forward(x.view(), y.view(), record, {.residual = residual.view()});
      layer.backward(record, x.view(), dy.view(), expected_dx.view(),
                     {.y = y.view(), .dresidual = expected_dresidual.view()});
      note = record.note();
    }
    const ForwardRecord again(memory.data(), shape.c, Device::cpu(), note);
    layer.backward(again, x.view(), dy.view(), dx.view(),
                   {.y = y.view(), .dresidual = dresidual.view()});
    EXPECT_EQ(dx, expected_dx);
    EXPECT_EQ(dresidual, expected_dresidual);
    EXPECT_EQ(again.note(), note);
  });
}

TEST(RecordNote, SaysOfWhichLayerAndForwardItIs) {
  BatchNorm layer(shape.c, Communicator::self()), other(shape.c, Communicator::self());
  const Tensor x = drawn(1);
  Tensor y = x, dx = x;
  std::vector<double> memory(ForwardRecord::length(shape.c));
  ForwardRecord record(memory.data(), shape.c);
  layer.forward(x.view(), y.view(), record);
  const ForwardRecord::Note first = record.note();
  layer.forward(x.view(), y.view(), record);
  EXPECT_NE(record.note(), first);
  const ForwardRecord again(memory.data(), shape.c, Device::cpu(), record.note());
  EXPECT_THAT(test::failure_of<InvalidArgument>(
                  [&] { other.backward(again, x.view(), y.view(), dx.view()); }),
              HasSubstr("another layer"));
}

TEST(RecordNote, OfAnEmptyRecordIsZeroAndMakesOne) {
  std::vector<double> memory(ForwardRecord::length(shape.c));
  EXPECT_EQ(ForwardRecord().note(), ForwardRecord::Note{});
  const ForwardRecord record(memory.data(), shape.c, Device::cpu(), {});
  EXPECT_TRUE(record.mean().empty());
  BatchNorm layer(shape.c, Communicator::self());
  const Tensor x = drawn(1);
  Tensor dx = x;
  EXPECT_THAT(test::failure_of<InvalidArgument>(
                  [&] { layer.backward(record, x.view(), x.view(), dx.view()); }),
              HasSubstr("the record is empty"));
}

TEST(RecordNote, ThatIsNoneIsRefused) {
  BatchNorm layer(shape.c, Communicator::self());
  const Tensor x = drawn(1);
  Tensor y = x;
  ForwardRecord record;
  layer.forward(x.view(), y.view(), record);
  const ForwardRecord::Note good = record.note();
  std::vector<double> memory(ForwardRecord::length(shape.c));
  const auto refused = [&](ForwardRecord::Note note, std::int64_t channels) {
    return test::failure_of<InvalidArgument>(
        [&] { ForwardRecord(memory.data(), channels, Device::cpu(), note); });
  };
  for (std::size_t i = 0; i < good.size(); ++i) {
    ForwardRecord::Note bad = good;
    bad[i] = -2;
    const bool any_number_will_do = i == 7;  // of the layer, which a backward looks at
    EXPECT_EQ(refused(bad, shape.c).empty(), any_number_will_do) << i;
  }
  EXPECT_THAT(refused(good, shape.c - 1), HasSubstr("5 channels"));
}

}  // namespace
}  // namespace syncbn
