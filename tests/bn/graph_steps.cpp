// SPDX-License-Identifier: Apache-2.0
#include "bn/graph_steps.hpp"

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "syncbn/batch_norm.hpp"

#include "bn/device.hpp"
#include "cuda/device_buffer.hpp"
#include "cuda/graph.hpp"
#include "cuda/stream.hpp"
#include "support/tensor.hpp"

namespace syncbn::test {
namespace {

constexpr std::int64_t channels = 37;
constexpr Shape shape{.n = 6, .c = channels, .s = 50};

std::span<const std::byte> bytes_of(const Tensor& tensor) {
  return {static_cast<const std::byte*>(tensor.view().data()),
          static_cast<std::size_t>(tensor.shape().size()) * size_of(tensor.dtype())};
}

/// A layer and the memory of its steps, on a stream of its own.
class Steps {
 public:
  Steps(DeviceCommunicator group, DType dtype, Layout layout, Reproducibility reproducibility)
      : empty_(dtype, shape, layout),
        stream_(cuda::make_stream()),
        rank_(static_cast<std::uint64_t>(group.rank())),
        layer_(channels, std::move(group),
               {.activation = Activation::relu, .reproducibility = reproducibility}) {
    for (cuda::DeviceBuffer* each : {&x_, &residual_, &y_, &dy_, &dx_, &dresidual_}) {
      *each = cuda::DeviceBuffer(bytes_of(empty_).size());
    }
  }

  /// Fills the tensors with this rank's new data for a step.
  void fill(std::uint64_t step) {
    const auto draw = [&](std::uint64_t seed, double mean) {
      return Tensor::normal(empty_.dtype(), shape, empty_.layout(), 1000 * rank_ + 10 * step + seed,
                            mean);
    };
    x_.upload(bytes_of(draw(1, 0.5)), stream_.get());
    residual_.upload(bytes_of(draw(2, 0)), stream_.get());
    dy_.upload(bytes_of(draw(3, 0.1)), stream_.get());
  }

  void run() {
    layer_.zero_grad(stream_.get());
    layer_.forward(at(x_), at(y_), record_, {.residual = at(residual_), .stream = stream_.get()});
    layer_.backward(record_, at(x_), at(dy_), at(dx_),
                    {.y = at(y_), .dresidual = at(dresidual_), .stream = stream_.get()});
  }

  cuda::Graph capture() {
    return {stream_.get(), [this] { run(); }};
  }
  void replay(const cuda::Graph& graph) { graph.replay(stream_.get()); }

  void wait() { layer_.device_communicator().synchronize(stream_.get()); }

  /// What came out of the last step, bit for bit.
  struct Result {
    Tensor y, dx, dresidual;
    std::vector<double> weight_grad, bias_grad, running_mean, running_var;
    std::int64_t batches = 0;
    friend bool operator==(const Result&, const Result&) = default;
  };
  Result result() {
    Result all{fetch(y_),
               fetch(dx_),
               fetch(dresidual_),
               test::fetch(layer_.weight_grad()),
               test::fetch(layer_.bias_grad()),
               test::fetch(layer_.running_mean()),
               test::fetch(layer_.running_var())};
    test::fetch(layer_.num_batches_tracked(), std::as_writable_bytes(std::span(&all.batches, 1)));
    return all;
  }

 private:
  TensorView at(const cuda::DeviceBuffer& memory) const {
    return {memory.data(), empty_.dtype(), shape, empty_.layout(), layer_.device()};
  }
  Tensor fetch(const cuda::DeviceBuffer& memory) const {
    Tensor tensor = empty_;
    test::fetch(memory.data(), {static_cast<std::byte*>(tensor.view().data()), memory.bytes()});
    return tensor;
  }

  Tensor empty_;
  cuda::Stream stream_;
  cuda::DeviceBuffer x_, residual_, y_, dy_, dx_, dresidual_;
  std::uint64_t rank_;
  BatchNorm layer_;
  ForwardRecord record_;
};

}  // namespace

void expect_replays_to_give_what_calls_give(const DeviceCommunicator& group,
                                            const DeviceCommunicator& group_of_calls,
                                            Reproducibility reproducibility) {
  for (const DType dtype : {DType::f32, DType::f64, DType::f16, DType::bf16}) {
    for (const Layout layout : {Layout::channels_first, Layout::channels_last}) {
      SCOPED_TRACE(std::string(to_string(dtype)) + ", " + std::string(to_string(layout)));
      Steps replayed(group, dtype, layout, reproducibility);
      Steps called(group_of_calls, dtype, layout, reproducibility);
      std::uint64_t step = 0;
      for (; step < 2; ++step) {
        for (Steps* each : {&replayed, &called}) {
          each->fill(step);
          each->run();
          each->wait();
        }
      }
      const cuda::Graph graph = replayed.capture();
      for (; step < 6; ++step) {
        replayed.fill(step);
        replayed.replay(graph);
        replayed.wait();
        called.fill(step);
        called.run();
        called.wait();
        ASSERT_TRUE(replayed.result() == called.result()) << "step " << step;
      }
      EXPECT_EQ(called.result().batches, 6);
    }
  }
}

}  // namespace syncbn::test
