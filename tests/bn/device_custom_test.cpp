// SPDX-License-Identifier: Apache-2.0
//
// The layer for devices over another library's collective, with a device that the host emulates.

#include <cstddef>
#include <cstring>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "syncbn/batch_norm.hpp"
#include "syncbn/device_communicator.hpp"
#include "syncbn/error.hpp"

#include "bn/placed.hpp"
#include "cuda/stream.hpp"
#include "support/failure.hpp"
#include "support/on_ranks.hpp"
#include "support/tensor.hpp"

namespace syncbn {
namespace {

using test::Placed;
using test::Tensor;
using testing::HasSubstr;

constexpr Shape shape{.n = 3, .c = 5, .s = 17};
constexpr CudaStream stream = nullptr;

/// A group that sums as another library would, whose collective is another communicator's.
DeviceCommunicator over_a_framework(const Communicator& ranks, int& calls) {
  return DeviceCommunicator::custom(
      ranks.split(0),
      [wire = ranks.split(0), &calls](double* values, std::size_t count, CudaStream on) {
        ++calls;
        cuda::StreamView(on).synchronize();
        wire.all_reduce({values, count});
      });
}

/// The results of three steps, y and dx in turn.
std::vector<Tensor> results_over(const DeviceCommunicator& group, const BatchNormOptions& options) {
  BatchNorm layer(shape.c, group, options);
  ForwardRecord record;
  std::vector<Tensor> results;
  for (std::uint64_t step = 0; step < 3; ++step) {
    const auto drawn = [&](std::uint64_t seed, double mean) {
      return Tensor::normal(DType::f32, shape, Layout::channels_first,
                            100 * step + 10 * seed + static_cast<std::uint64_t>(group.rank()),
                            mean);
    };
    Placed x(drawn(1, 0.5)), dy(drawn(2, 0.1)), y(drawn(3, 0)), dx(drawn(4, 0));
    layer.forward(x.view(), y.view(), record, {.stream = stream});
    layer.backward(record, x.view(), dy.view(), dx.view(), {.stream = stream});
    group.synchronize(stream);
    results.push_back(y.fetch());
    results.push_back(dx.fetch());
  }
  return results;
}

bool same_bits(const Tensor& a, const Tensor& b) {
  const auto bytes = static_cast<std::size_t>(a.shape().size()) * sizeof(float);
  return std::memcmp(a.view().data(), b.view().data(), bytes) == 0;
}

TEST(DeviceLayerOverAFramework, GivesTheBitsOfStagedSums) {
  test::on_ranks([](const Communicator& ranks) {
    for (const auto kind : {Reproducibility::rank_consistent, Reproducibility::exact}) {
      const BatchNormOptions options{.reproducibility = kind};
      int calls = 0;
      const std::vector<Tensor> actual = results_over(over_a_framework(ranks, calls), options);
      const std::vector<Tensor> expected = results_over(DeviceCommunicator::staged(ranks), options);
      for (std::size_t i = 0; i < expected.size(); ++i) {
        EXPECT_TRUE(same_bits(actual[i], expected[i])) << "result " << i;
      }
      EXPECT_EQ(calls > 0, ranks.size() > 1);
    }
  });
}

TEST(DeviceLayerOverAFramework, TellsWhoHasAnotherLayer) {
  test::on_ranks([](const Communicator& ranks) {
    if (ranks.size() == 1) {
      return;
    }
    int calls = 0;
    const DeviceCommunicator group = over_a_framework(ranks, calls);
    EXPECT_THAT(test::failure_of<CommError>(
                    [&] { results_over(group, {.name = ranks.rank() == 0 ? "bn1" : "bn2"}); }),
                HasSubstr("rank 0: exchange #1, forward of 'bn1'"));
    EXPECT_EQ(calls, 0);
  });
}

}  // namespace
}  // namespace syncbn
