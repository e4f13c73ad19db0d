// SPDX-License-Identifier: Apache-2.0

// The kernels' own conversions of 16-bit elements against those of core/float16.

#include "core/float16.hpp"

#include <cmath>
#include <cstdint>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/problem.hpp"

namespace syncbn::test {
namespace {

constexpr Shape patterns{1, 2, 1 << 15};

template <class T>
struct Type;
template <>
struct Type<Float16> {
  static constexpr DType dtype = DType::f16;
};
template <>
struct Type<BFloat16> {
  static constexpr DType dtype = DType::bf16;
};

template <class T>
class KernelFloat16Test : public testing::Test {
 protected:
  KernelFloat16Test() : all_(1 << 16) {
    for (std::size_t i = 0; i < all_.size(); ++i) {
      all_[i].bits = static_cast<std::uint16_t>(i);
    }
  }

  // y = x * factor in float for every pattern x, by the kernel.
  std::vector<T> multiplied(float factor) const {
    const std::vector<double> zero(2), scale(2, static_cast<double>(factor));
    std::vector<T> y(all_.size());
    kernels::Scratch scratch;
    kernels::select(Backend::cpu)
        .normalize({.x = {all_.data(), Type<T>::dtype, patterns},
                    .weight = nullptr,
                    .mean = zero.data(),
                    .scale = scale.data(),
                    .shift = zero.data(),
                    .residual = nullptr,
                    .negative_slope = 1,
                    .y = y.data()},
                   {0, 2}, {scratch});
    return y;
  }

  void expect_products(float factor) const {
    const std::vector<T> y = multiplied(factor);
    for (std::size_t i = 0; i < y.size(); ++i) {
      const float product = static_cast<float>(to_double(all_[i])) * factor;
      const T expected = T::from(static_cast<double>(product));
      if (std::isnan(product)) {
        ASSERT_TRUE(std::isnan(to_double(y[i]))) << i;
      } else {
        ASSERT_EQ(to_double(y[i]), to_double(expected)) << i << " times " << factor;
      }
    }
  }

  std::vector<T> all_;
};

using Types = testing::Types<Float16, BFloat16>;
TYPED_TEST_SUITE(KernelFloat16Test, Types);

TYPED_TEST(KernelFloat16Test, EveryPatternIsReadAndWrittenBack) {
  on_every_target([&] { this->expect_products(1); });
}

// 1.5 and 0.75 give ties, 1/3 anything; the others reach into overflow and the subnormals.
TYPED_TEST(KernelFloat16Test, EveryProductIsRoundedToNearestEven) {
  on_every_target([&] {
    for (const float factor : {1.5F, 0.75F, -1.0F / 3, 1.0009765F, 0x1.8p-5F, 0x1p-12F, 3e4F}) {
      this->expect_products(factor);
    }
  });
}

// Sums read elements by another way than normalize does.
TYPED_TEST(KernelFloat16Test, EveryPatternIsSummed) {
  constexpr int finite = Type<TypeParam>::dtype == DType::f16 ? 0x7C00 : 0x7F80;
  const std::vector<double> pivot(finite);
  std::vector<double> sums(2 * finite);
  on_every_target([&] {
    for (const Layout layout : {Layout::channels_first, Layout::channels_last}) {
      const ConstTensorView one_each(this->all_.data(), Type<TypeParam>::dtype, {1, finite, 1},
                                     layout);
      kernels::Scratch scratch;
      kernels::select(Backend::cpu)
          .forward_sums({one_each, nullptr, pivot.data(), sums.data()}, {0, finite}, {scratch});
      for (std::size_t i = 0; i < pivot.size(); ++i) {
        ASSERT_EQ(sums[i], to_double(this->all_[i]));
      }
    }
  });
}

}  // namespace
}  // namespace syncbn::test
