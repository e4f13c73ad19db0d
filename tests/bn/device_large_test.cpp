// SPDX-License-Identifier: Apache-2.0

// Kernels for devices are launched in one dimension, which has room for more blocks than the 65,535
// of the other two. Layers with so many channels give what the host's give.

#include <cmath>
#include <cstdint>
#include <span>
#include <sstream>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "syncbn/batch_norm.hpp"

#include "bn/device.hpp"
#include "bn/placed.hpp"
#include "kernels/cuda/channel_sums.hpp"
#include "kernels/cuda/geometry.hpp"
#include "support/tensor.hpp"

namespace syncbn {
namespace {

using test::Placed;
using test::Tensor;
using namespace kernels::cuda;

constexpr std::int64_t most_blocks_of_a_short_dimension = 65'535;

class DeviceLarge : public testing::Test {
 protected:
  void SetUp() override {
    if (const std::string why = test::no_device(); !why.empty()) {
      GTEST_SKIP() << why;
    }
  }
};

/// Describes the first element that is off by more than `tolerance` times its channel's invstd to
/// the power `power`, or times 1 if that is more; "" if there is none. Channels come in order.
std::string first_wrong(const Tensor& actual, const Tensor& expected,
                        std::span<const double> invstd, int power, double tolerance) {
  const Shape& shape = expected.shape();
  for (std::int64_t c = 0; c < shape.c; ++c) {
    const double scale = std::pow(std::fmax(1, invstd[static_cast<std::size_t>(c)]), power);
    for (std::int64_t n = 0; n < shape.n; ++n) {
      for (std::int64_t s = 0; s < shape.s; ++s) {
        if (!(std::fabs(actual.at(n, c, s) - expected.at(n, c, s)) <= scale * tolerance)) {
          std::ostringstream text;
          text << "channel " << c << ", sample " << n << ", position " << s << ": "
               << actual.at(n, c, s) << ", expected " << expected.at(n, c, s);
          return text.str();
        }
      }
    }
  }
  return "";
}

/// Returns `written` with all channels from `end` on as they were before.
Tensor written_before(std::int64_t end, const Tensor& written, const Tensor& before) {
  Tensor mixed = written;
  const Shape& shape = written.shape();
  for (std::int64_t n = 0; n < shape.n; ++n) {
    for (std::int64_t c = end; c < shape.c; ++c) {
      for (std::int64_t s = 0; s < shape.s; ++s) {
        mixed.set(n, c, s, before.at(n, c, s));
      }
    }
  }
  return mixed;
}

/// Expects a step of a layer with samples' weights, or without, to give what the host's gives. As a
/// control, results that are written before channel `end` only must not pass.
void expect_the_hosts_results(const Shape& shape, const std::vector<float>& weight,
                              std::int64_t end) {
  const Layout layout = Layout::channels_first;
  const Tensor x = Tensor::normal(DType::f32, shape, layout, 1, 0.5);
  const Tensor dy = Tensor::normal(DType::f32, shape, layout, 2, 0.1);
  Tensor y = x;
  Tensor dx = dy;
  Placed on_x(x), on_dy(dy), on_y(x), on_dx(dy);
  const test::DeviceMemory on_weight(std::as_bytes(std::span(weight)));
  const PositionWeights weights(static_cast<const float*>(on_weight.data()), weight.size());

  BatchNorm host(shape.c, Communicator::self());
  BatchNorm device(shape.c, DeviceCommunicator::self());
  ForwardRecord of_host, of_device;
  host.forward(x.view(), y.view(), of_host, {.position_weights = weight});
  host.backward(of_host, x.view(), dy.view(), dx.view(), {.position_weights = weight});
  device.forward(on_x.view(), on_y.view(), of_device, {.position_weights = weights});
  device.backward(of_device, on_x.view(), on_dy.view(), on_dx.view(),
                  {.position_weights = weights});

  // Terms are floats, off by 11 roundings at most, and so are results.
  constexpr double tolerance = 64 * 0x1p-24;
  const auto wrong_y = [&](const Tensor& actual) {
    return first_wrong(actual, y, of_host.invstd(), 1, 4 * tolerance);
  };
  const auto wrong_dx = [&](const Tensor& actual) {
    return first_wrong(actual, dx, of_host.invstd(), 2, 4 * tolerance);
  };
  EXPECT_EQ(wrong_y(on_y.fetch()), "");
  EXPECT_EQ(wrong_dx(on_dx.fetch()), "");
  const std::string channel = "channel " + std::to_string(end) + ",";
  EXPECT_THAT(wrong_y(written_before(end, y, x)), testing::StartsWith(channel));
  EXPECT_THAT(wrong_dx(written_before(end, dx, dy)), testing::StartsWith(channel));

  const std::vector<double> mean = test::fetch(device.running_mean());
  const std::vector<double> var = test::fetch(device.running_var());
  for (std::size_t c = 0; c < mean.size(); ++c) {
    ASSERT_NEAR(mean[c], host.running_mean()[c], tolerance) << c;
    ASSERT_NEAR(var[c], host.running_var()[c], 4 * tolerance) << c;
  }
}

// Each channel has a block of its own.
TEST_F(DeviceLarge, SumsAndNormalizesInMoreThan65535Blocks) {
  constexpr Shape shape{.n = 1, .c = 70'001, .s = 256};
  const kernels::Extents extents = kernels::extents_of(shape, Layout::channels_first);
  ASSERT_GT(Planes<4>(extents, Purpose::sums).blocks(), most_blocks_of_a_short_dimension);
  ASSERT_GT(Planes<4>(extents, Purpose::elements).blocks(), most_blocks_of_a_short_dimension);
  expect_the_hosts_results(shape, {}, most_blocks_of_a_short_dimension);
}

// With weights, parts are added up, by a block for every four channels.
TEST_F(DeviceLarge, AddsUpPartsInMoreThan65535Blocks) {
  constexpr Shape shape{.n = 5, .c = 280'003, .s = 1};
  ASSERT_GT(divide_up(shape.c, AddParts::side_by_side), most_blocks_of_a_short_dimension);
  expect_the_hosts_results(shape, {1, 2, 0, 1, 0.5},
                           most_blocks_of_a_short_dimension * AddParts::side_by_side);
}

}  // namespace
}  // namespace syncbn
