// SPDX-License-Identifier: Apache-2.0
#include "syncbn/tensor_view.hpp"

#include <array>
#include <cstddef>
#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "syncbn/error.hpp"

#include "support/failure.hpp"

namespace syncbn {
namespace {

constexpr std::int64_t largest = std::numeric_limits<std::int64_t>::max();

alignas(16) std::array<std::byte, 4096> memory;

TEST(TensorView, TakesMemoryAlignedToItsElementsAndNoOther) {
  for (const DType dtype : {DType::f32, DType::f64, DType::f16, DType::bf16}) {
    const std::size_t element = size_of(dtype);
    for (std::size_t offset = 0; offset < 16; ++offset) {
      const auto view = [&] { ConstTensorView(&memory[offset], dtype, {2, 3, 4}); };
      const auto written = [&] { TensorView(&memory[offset], dtype, {2, 3, 4}); };
      if (offset % element == 0) {
        EXPECT_NO_THROW(view());
        EXPECT_NO_THROW(written());
      } else {
        EXPECT_THROW(view(), InvalidArgument) << to_string(dtype) << " at " << offset;
        EXPECT_THROW(written(), InvalidArgument) << to_string(dtype) << " at " << offset;
      }
    }
  }
}

TEST(TensorView, SaysHowFarMemoryIsFromAligned) {
  EXPECT_THAT(test::failure_of<InvalidArgument>([&] {
                ConstTensorView(&memory[6], DType::f32, {1, 1, 1});
              }),
              testing::HasSubstr("2 bytes behind a multiple of 4"));
}

TEST(TensorView, WithoutElementsNeedsNoMemory) {
  EXPECT_NO_THROW(ConstTensorView(nullptr, DType::f32, {0, 3, 4}));
  EXPECT_NO_THROW(ConstTensorView(nullptr, DType::f32, {3, 3, 0}));
  EXPECT_NO_THROW(ConstTensorView(&memory[1], DType::f32, {0, 3, 4}));
  EXPECT_THROW(ConstTensorView(nullptr, DType::f32, {1, 3, 4}), InvalidArgument);
}

TEST(TensorView, RefusesExtentsWhoseProductDoesNotFit) {
  const auto refused = [](const Shape& shape) {
    EXPECT_THROW(ConstTensorView(memory.data(), DType::f32, shape), InvalidArgument)
        << "n=" << shape.n << " c=" << shape.c << " s=" << shape.s;
  };
  refused({-1, 1, 1});
  refused({1, 0, 1});
  refused({1, 1, -1});
  refused({1, Shape::most_channels + 1, 1});
  refused({std::int64_t{1} << 31, 1, std::int64_t{1} << 31});
  refused({largest, 1, 1});
}

TEST(TensorView, AnExtentOfZeroDoesNotExcuseTheOthers) {
  const auto refused = [](const Shape& shape) {
    EXPECT_THROW(ConstTensorView(nullptr, DType::f32, shape), InvalidArgument)
        << "n=" << shape.n << " c=" << shape.c << " s=" << shape.s;
  };
  refused({0, 3, std::int64_t{1} << 62});
  refused({0, 1, std::int64_t{1} << 62});
  refused({std::int64_t{1} << 62, 1, 0});
  refused({0, largest, 1});
  refused({0, 4, largest});
}

}  // namespace
}  // namespace syncbn
