// SPDX-License-Identifier: Apache-2.0
//
// NCCL with two ranks: on two devices, or on one where NCCL lets ranks share it, as the emulated
// one does. Each is a process, since NCCL's kernels wait for each other, and in one process work on
// a device may wait for them.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "syncbn/batch_norm.hpp"
#include "syncbn/device_communicator.hpp"
#include "syncbn/error.hpp"

#include "bn/device.hpp"
#include "comm/device/device_sum.hpp"
#include "comm/device_values.hpp"
#include "comm/group/access.hpp"
#include "comm/nccl/device_sharing.hpp"
#include "comm/processes.hpp"
#include "cuda/device.hpp"
#include "support/failure.hpp"
#include "support/tensor.hpp"

namespace syncbn {
namespace {

using namespace std::chrono_literals;
using test::DeviceValues;
using testing::AllOf;
using testing::HasSubstr;
using Clock = std::chrono::steady_clock;

/// Makes the rank's device current. Returns why there is none, "" if there is.
std::string choose_device(int rank) {
  const int devices = cuda::device_count();
  if (devices == 0) {
    return "SKIPPED: no CUDA device";
  }
  if (devices == 1 && !comm::nccl::ranks_may_share_a_device()) {
    return "SKIPPED: one CUDA device, which NCCL " + comm::nccl::version() +
           " does not let two ranks share (2.30.3 or newer does, where "
           "NCCL_MULTI_RANK_GPU_ENABLE=1)";
  }
  cuda::choose_device(rank % devices);
  return "";
}

/// Runs `body` in new processes, which this one has to be free of CUDA for.
void on_processes(const test::Body& body, int size = 2, Deadlines deadlines = 10s) {
  expect_success(test::run_processes(size, choose_device, body, deadlines));
}

TEST(NcclRanks, Sum) {
  on_processes([](const Communicator& ranks) {
    const DeviceCommunicator group = DeviceCommunicator::nccl(ranks, 30s);
    for (const std::size_t length : {1, 129, 5000, 129}) {
      DeviceValues values(std::vector<double>(length, ranks.rank() + 1.0));
      group.all_reduce(values.data(), length, values.stream());
      group.synchronize(values.stream());
      EXPECT_EQ(values.read(), std::vector<double>(length, 3.0));
    }
    const DeviceCommunicator part = DeviceCommunicator::nccl(Communicator::self(), 30s);
    DeviceValues values({5.0});
    part.all_reduce(values.data(), 1, values.stream());
    part.synchronize(values.stream());
    EXPECT_EQ(values.read(), std::vector<double>{5.0});
  });
}

/// A tensor on the device, and samples of it.
class Placed {
 public:
  explicit Placed(const test::Tensor& tensor) : tensor_(tensor), memory_(bytes(tensor_)) {}

  TensorView samples(std::int64_t begin, std::int64_t count) const {
    const Shape& shape = tensor_.shape();
    return {static_cast<float*>(memory_.data()) + begin * shape.c * shape.s,
            tensor_.dtype(),
            {count, shape.c, shape.s},
            tensor_.layout(),
            Device::cuda(cuda::current_device())};
  }
  std::vector<float> fetch() const {
    std::vector<float> values(static_cast<std::size_t>(tensor_.shape().size()));
    test::fetch(memory_.data(), std::as_writable_bytes(std::span(values)));
    return values;
  }

 private:
  static std::span<const std::byte> bytes(const test::Tensor& tensor) {
    return {static_cast<const std::byte*>(tensor.view().data()),
            static_cast<std::size_t>(tensor.shape().size()) * sizeof(float)};
  }
  test::Tensor tensor_;
  test::DeviceMemory memory_;
};

// Both ranks have the whole batch, give the layer their part of it, and compare with one rank's.
void expect_result_of_one(Reproducibility reproducibility, double tolerance) {
  on_processes([=](const Communicator& ranks) {
    const Shape shape{.n = 7, .c = 5, .s = 33};
    const std::int64_t begin = ranks.rank() == 0 ? 0 : 3;
    const std::int64_t count = ranks.rank() == 0 ? 3 : 4;
    const BatchNormOptions options{.reproducibility = reproducibility};
    BatchNorm layer(shape.c, DeviceCommunicator::nccl(ranks, 30s), options);
    BatchNorm alone(shape.c, DeviceCommunicator::self(), options);
    ForwardRecord record, record_alone;
    for (std::uint64_t step = 0; step < 3; ++step) {
      const auto drawn = [&](std::uint64_t seed, double mean) {
        return test::Tensor::normal(DType::f32, shape, Layout::channels_first, 10 * step + seed,
                                    mean);
      };
      const Placed x(drawn(1, 0.5)), dy(drawn(2, 0.1));
      const Placed y(drawn(3, 0)), dx(drawn(4, 0)), y_alone(drawn(5, 0)), dx_alone(drawn(6, 0));
      layer.forward(x.samples(begin, count), y.samples(begin, count), record);
      layer.backward(record, x.samples(begin, count), dy.samples(begin, count),
                     dx.samples(begin, count));
      layer.device_communicator().synchronize(nullptr);
      alone.forward(x.samples(0, shape.n), y_alone.samples(0, shape.n), record_alone);
      alone.backward(record_alone, x.samples(0, shape.n), dy.samples(0, shape.n),
                     dx_alone.samples(0, shape.n));
      const auto length = static_cast<std::size_t>(count * shape.c * shape.s);
      const auto offset = static_cast<std::size_t>(begin * shape.c * shape.s);
      const std::vector<float> ys = y.fetch(), ys_alone = y_alone.fetch();
      const std::vector<float> dxs = dx.fetch(), dxs_alone = dx_alone.fetch();
      for (std::size_t i = offset; i < offset + length; ++i) {
        ASSERT_NEAR(ys[i], ys_alone[i], tolerance) << i;
        ASSERT_NEAR(dxs[i], dxs_alone[i], tolerance) << i;
      }
    }
  });
}

TEST(NcclRanks, GiveTheResultOfOneWithTheWholeBatch) {
  expect_result_of_one(Reproducibility::rank_consistent, 1e-4);
}

TEST(NcclRanks, GiveItsBitsWithExactSums) {
  expect_result_of_one(Reproducibility::exact, 0);
}

TEST(NcclRanks, ThatDisagreeAreToldSo) {
  on_processes([](const Communicator& ranks) {
    const DeviceCommunicator group = DeviceCommunicator::nccl(ranks, 30s);
    DeviceValues values({1.0, 2.0});
    const comm::Descriptor what{.subject = ranks.rank() == 0 ? "apples" : "pears", .count = 2};
    EXPECT_THAT(test::failure_of<CommError>([&] {
                  comm::Access::sum(group).all_reduce(what, {values.data(), 2}, values.stream());
                }),
                AllOf(HasSubstr("'apples'"), HasSubstr("'pears'")));
  });
}

// Rank 0 waits on the device for a rank that is busy otherwise.
TEST(NcclRanks, ThatDoNotComeAreMissed) {
  on_processes([](const Communicator& ranks) {
    const DeviceCommunicator group = DeviceCommunicator::nccl(ranks, 8s);  // also to be made in
    DeviceValues values({1.0, 2.0});
    group.all_reduce(values.data(), 2, values.stream());
    group.synchronize(values.stream());
    if (ranks.rank() == 1) {
      std::this_thread::sleep_for(25s);
      return;
    }
    const auto start = Clock::now();
    EXPECT_THAT(test::failure_of<CommError>([&] {
                  group.all_reduce(values.data(), 2, values.stream());
                  group.synchronize(values.stream());
                }),
                AllOf(HasSubstr("within 8 s"), HasSubstr("rank 1 did not come")));
    EXPECT_LT(Clock::now() - start, 22s);
  });
}

}  // namespace
}  // namespace syncbn
