// SPDX-License-Identifier: Apache-2.0

// A tensor of more than 2^31 elements, in place so that two of 4 GiB are enough.
//
// x repeats -3 ... 3, about another mean in each channel: mean c, variance 4. dy repeats 7 0 0 0 0
// 0 0: a / n = 1, b / n = 7 (-3) / 7.

#include <cmath>
#include <cstring>
#include <fstream>
#include <memory>
#include <string>

#include <gtest/gtest.h>

#include "syncbn/batch_norm.hpp"

#include "core/float16.hpp"

namespace syncbn {
namespace {

constexpr std::int64_t period = 7;
constexpr Shape shape{2, 3, 51130564 * period};
static_assert(shape.size() > std::int64_t{1} << 31);

double value(std::int64_t k) {
  return static_cast<double>(k % period) - 3;
}

std::int64_t available_gib() {
  std::ifstream file("/proc/meminfo");
  std::string name;
  std::int64_t kib = 0;
  for (std::string rest; file >> name >> kib; std::getline(file, rest)) {
    if (name == "MemAvailable:") {
      return kib >> 20;
    }
  }
  return 0;
}

class LargeTensor : public testing::TestWithParam<Layout> {
 protected:
  void SetUp() override {
    if (available_gib() < 10) {
      GTEST_SKIP() << "needs 10 GiB of memory, " << available_gib() << " are available";
    }
    elements_.reset(new Float16[2 * static_cast<std::size_t>(shape.size())]);
  }

  TensorView view(Float16* data) const { return {data, DType::f16, shape, GetParam()}; }
  Float16* x() { return elements_.get(); }
  Float16* dy() { return elements_.get() + shape.size(); }

  std::int64_t index(std::int64_t n, std::int64_t c, std::int64_t s) const {
    return GetParam() == Layout::channels_first ? (n * shape.c + c) * shape.s + s
                                                : (n * shape.s + s) * shape.c + c;
  }

  // of(c, k) at position k of channel c; repeats.
  template <class Of>
  void fill(Float16* data, Of of) const {
    const bool first = GetParam() == Layout::channels_first;
    const std::int64_t runs = first ? shape.n * shape.c : 1;
    const std::int64_t run = shape.size() / runs;
    for (std::int64_t r = 0; r < runs; ++r) {
      Float16* to = data + r * run;
      std::int64_t done = first ? period : period * shape.c;
      for (std::int64_t i = 0; i < done; ++i) {
        const std::int64_t c = first ? r % shape.c : i % shape.c;
        to[i] = Float16::from(of(c, first ? i : i / shape.c));
      }
      for (; done < run; done *= 2) {
        const std::int64_t more = std::min(done, run - done);
        std::memcpy(to + done, to, static_cast<std::size_t>(more) * sizeof(Float16));
      }
    }
  }

  std::unique_ptr<Float16[]> elements_;
};
INSTANTIATE_TEST_SUITE_P(, LargeTensor,
                         testing::Values(Layout::channels_first, Layout::channels_last),
                         [](const auto& of) { return std::string(to_string(of.param)); });

TEST_P(LargeTensor, IsNormalizedToItsEnd) {
  fill(x(), [](std::int64_t c, std::int64_t k) { return static_cast<double>(c) + value(k); });
  fill(dy(), [](std::int64_t, std::int64_t k) { return k == 0 ? 7.0 : 0.0; });
  BatchNorm layer(shape.c, Communicator::self(), {.momentum = 1});
  ForwardRecord record;

  layer.forward_in_place(view(x()), record);
  layer.backward_in_place(record, view(x()), view(dy()), view(dy()));

  const double invstd = 1 / std::sqrt(4 + 1e-5);
  const double unit = 0x1p-11;  // of f16
  for (std::int64_t c = 0; c < shape.c; ++c) {
    const auto i = static_cast<std::size_t>(c);
    EXPECT_NEAR(layer.running_mean()[i], static_cast<double>(c), 1e-9);
    EXPECT_NEAR(record.var()[i], 4, 1e-8);
    EXPECT_EQ(record.count()[0], static_cast<double>(shape.per_channel()));
    for (std::int64_t n = 0; n < shape.n; ++n) {
      for (const std::int64_t from : {std::int64_t{0}, shape.s / 2, shape.s - 40}) {
        for (std::int64_t s = from; s < from + 40; ++s) {
          const double y = value(s) * invstd;
          ASSERT_NEAR(static_cast<double>(x()[index(n, c, s)]), y, 2 * unit * std::fabs(y));
          const double dx =
              invstd * ((s % period == 0 ? 7 : 0) - 1 + 3 * value(s) * invstd * invstd);
          // The input comes back to a rounding of y.
          ASSERT_NEAR(static_cast<double>(dy()[index(n, c, s)]), dx, 8 * unit)
              << n << ", " << c << ", " << s;
        }
      }
    }
  }
}

}  // namespace
}  // namespace syncbn
