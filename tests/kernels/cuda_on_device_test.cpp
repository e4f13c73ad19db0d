// SPDX-License-Identifier: Apache-2.0

// The CUDA kernels on a device: right, of the very bits that the same code has on the host, and
// fit for graphs.

#include "kernels/cuda_on_device.hpp"

#include <cstring>
#include <limits>

#include <gtest/gtest.h>

#include "syncbn/error.hpp"

#include "cuda/check.hpp"
#include "cuda/device.hpp"
#include "cuda/device_buffer.hpp"
#include "cuda/event.hpp"
#include "cuda/pinned_buffer.hpp"
#include "kernels/cuda/cuda.hpp"
#include "kernels/cuda/finalize.hpp"
#include "kernels/cuda_checks.hpp"
#include "kernels/cuda_on_host.hpp"

namespace syncbn::test {
namespace {

namespace cuda = syncbn::cuda;

void require_device() {
  if (cuda::device_count() == 0) {
    GTEST_SKIP() << "SKIPPED: no CUDA device";
  }
}

class CudaOnDeviceTest : public testing::TestWithParam<TypeAndLayout> {
 protected:
  void SetUp() override { require_device(); }
};
INSTANTIATE_TEST_SUITE_P(, CudaOnDeviceTest, testing::ValuesIn(types_and_layouts()),
                         [](const auto& of) { return name_of(of.param); });

TEST_P(CudaOnDeviceTest, SumsAgreeWithTheReference) {
  on_cuda_problems(GetParam(),
                   [](const Problem& problem) { expect_right_sums(cuda_on_device(), problem); });
}

TEST_P(CudaOnDeviceTest, ElementsAgreeWithTheReference) {
  on_cuda_problems(
      GetParam(), [](const Problem& problem) { expect_right_elements(cuda_on_device(), problem); });
}

// Nothing is contracted or rounded otherwise: so the tests on the host speak for the device.
TEST_P(CudaOnDeviceTest, BitsAreThoseOfTheHost) {
  on_cuda_problems(GetParam(), [](const Problem& problem) {
    expect_same_results(cuda_on_device(), cuda_on_host(), problem);
  });
}

class CudaTest : public testing::Test {
 protected:
  void SetUp() override {
    require_device();
    if (!IsSkipped()) {
      stream = cuda::make_stream();
    }
  }

  template <class T>
  static std::span<const std::byte> bytes(const std::vector<T>& values) {
    return std::as_bytes(std::span(values));
  }
  template <class T>
  cuda::DeviceBuffer copy(const std::vector<T>& values) {
    cuda::DeviceBuffer buffer(values.size() * sizeof(T));
    buffer.upload(bytes(values), stream.get());
    return buffer;
  }
  template <class T>
  std::vector<T> fetch(const cuda::DeviceBuffer& buffer) {
    std::vector<T> values(buffer.bytes() / sizeof(T));
    buffer.download(std::as_writable_bytes(std::span(values)), stream.get());
    cuda::StreamView(stream.get()).synchronize();
    return values;
  }

  cuda::Stream stream;
};

// Sums, statistics and output of two batches, the second in the graph that the first was captured
// in: running statistics and pivot have moved in between, without the host.
TEST_F(CudaTest, AStepCanBeReplayedAsAGraph) {
  constexpr std::int64_t c = 24;
  constexpr Shape shape{6, c, 49};
  const Problem problem(DType::f32, shape, Layout::channels_first);
  const std::vector<double> zeros(c), ones(c, 1);
  cuda::DeviceBuffer x(static_cast<std::size_t>(shape.size()) * sizeof(float)), y(x.bytes()),
      sums((2 * c + 1) * sizeof(double)),
      workspace(kernels::cuda::workspace_bytes(shape, DType::f32, Layout::channels_first)),
      pivot = copy(std::vector<double>(c)), mean = copy(zeros), var = copy(zeros),
      invstd = copy(zeros), scale = copy(zeros), shift = copy(zeros), count = copy(zeros),
      running_mean = copy(zeros), running_var = copy(ones), start_mean = copy(zeros),
      start_var = copy(ones), batches = copy(std::vector<std::int64_t>(1));
  x.upload({static_cast<const std::byte*>(problem.x.view().data()), x.bytes()}, stream.get());
  cuda::StreamView(stream.get()).synchronize();

  const ConstTensorView x_view(x.data(), DType::f32, shape);
  const kernels::cuda::Finalize finalize{
      .channels = c,
      .sums = sums.as<double>(),
      .dtype = DType::f32,
      .pivot = pivot.as<double>(),
      .eps = 1e-5,
      .gamma = nullptr,
      .beta = nullptr,
      .out = {mean.as<double>(), var.as<double>(), invstd.as<double>(), scale.as<double>(),
              shift.as<double>(), count.as<double>()},
      .running = kernels::cuda::Running{running_mean.as<double>(), running_var.as<double>(),
                                        start_mean.as<double>(), start_var.as<double>(),
                                        batches.as<std::int64_t>(), std::nullopt}};
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t step = nullptr;
  cuda::check(cudaStreamBeginCapture(stream.get(), cudaStreamCaptureModeGlobal), "capturing");
  kernels::cuda::forward_sums({x_view, nullptr, pivot.as<double>(), sums.as<double>()},
                              workspace.data(), stream.get());
  kernels::cuda::finalize(finalize, stream.get());
  kernels::cuda::normalize({x_view, nullptr, mean.as<double>(), scale.as<double>(),
                            shift.as<double>(), nullptr, 0, y.data()},
                           stream.get());
  cuda::check(cudaStreamEndCapture(stream.get(), &graph), "ending the capture");
  cuda::check(cudaGraphInstantiate(&step, graph, 0), "instantiating a graph");

  for (std::int64_t batch = 1; batch <= 2; ++batch) {
    cuda::check(cudaGraphLaunch(step, stream.get()), "launching a graph");
    EXPECT_EQ(fetch<std::int64_t>(batches)[0], batch);
    // The batch is the same both times, but the second's sums are about another pivot: their terms,
    // below 10, are rounded to float 11 times at most (channel_sums.hpp).
    const std::vector<double> moved = fetch<double>(running_mean), means = fetch<double>(mean);
    for (std::size_t i = 0; i < means.size(); ++i) {
      EXPECT_NEAR(moved[i], means[i], batch == 1 ? 0 : 10 * 11 * 0x1p-24) << i;
    }
    Problem with_statistics = problem;
    with_statistics.mean = fetch<double>(mean);
    with_statistics.scale = fetch<double>(scale);
    with_statistics.shift = fetch<double>(shift);
    const Tensor expected = normalize(cuda_on_host(), with_statistics, true, false);
    const std::vector<float> got = fetch<float>(y);
    EXPECT_EQ(std::memcmp(got.data(), expected.view().data(), y.bytes()), 0);
    for (const double value : fetch<double>(invstd)) {
      EXPECT_NEAR(value, 0.5, 0.1);  // x has a spread of 2
    }
  }
  cudaGraphExecDestroy(step);
  cudaGraphDestroy(graph);
}

TEST_F(CudaTest, BuffersAreCopiedOnTheStreamAndEventsMarkIt) {
  const std::vector<double> values = {1, 2, 3};
  cuda::DeviceBuffer buffer = copy(values);
  EXPECT_EQ(fetch<double>(buffer), values);
  cuda::PinnedBuffer pinned(buffer.bytes());
  cuda::Event begin(cuda::Event::Timing::yes), end(cuda::Event::Timing::yes);
  begin.record(stream.get());
  buffer.download({pinned.as<std::byte>(), pinned.bytes()}, stream.get());
  buffer.clear(stream.get());
  end.record(stream.get());
  end.synchronize();
  EXPECT_TRUE(end.is_done());
  EXPECT_GE(end.milliseconds_since(begin), 0);
  EXPECT_EQ(pinned.as<double>()[2], 3);
  EXPECT_EQ(fetch<double>(buffer), std::vector<double>(3, 0));
}

TEST_F(CudaTest, ErrorsSayWhatWasDoneAndWhere) {
  try {
    cuda::DeviceBuffer(std::numeric_limits<std::size_t>::max() / 2);
    FAIL() << "that much memory?";
  } catch (const DeviceError& error) {
    EXPECT_NE(std::string(error.what()).find("allocating device memory"), std::string::npos);
    EXPECT_NE(std::string(error.what()).find("device_buffer.cpp:"), std::string::npos);
  }
  EXPECT_NO_THROW(cuda::DeviceBuffer(16));  // the error is not met again
}

}  // namespace
}  // namespace syncbn::test
