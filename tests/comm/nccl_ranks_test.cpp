// SPDX-License-Identifier: Apache-2.0
//
// NCCL with two ranks: on two devices, or on one where NCCL lets ranks share it. Each is a process,
// since NCCL's kernels wait for each other, and in one process work on a device may wait for them.

#include <array>
#include <atomic>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <functional>
#include <new>
#include <span>
#include <string>
#include <thread>
#include <unistd.h>
#include <vector>

#include <cuda_runtime_api.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "syncbn/batch_norm.hpp"
#include "syncbn/device_communicator.hpp"
#include "syncbn/error.hpp"

#include "bn/device.hpp"
#include "comm/device/device_sum.hpp"
#include "comm/device_values.hpp"
#include "comm/nccl/device_sharing.hpp"
#include "cuda/check.hpp"
#include "support/failure.hpp"
#include "support/tensor.hpp"

namespace syncbn {
namespace {

using namespace std::chrono_literals;
using test::DeviceValues;
using testing::AllOf;
using testing::HasSubstr;
using Clock = std::chrono::steady_clock;

/// Where the two processes meet: memory of both.
struct Meeting {
  struct Rank {
    std::atomic<std::uint64_t> posted{0};
    std::atomic<std::uint64_t> read{0};
    std::array<double, 4096> values{};
  };
  std::array<Rank, 2> ranks;

  /// Waits until the other rank has come as far.
  static void await(const std::atomic<std::uint64_t>& other, std::uint64_t turn) {
    for (const auto end = Clock::now() + 10s; other.load() < turn; std::this_thread::yield()) {
      if (Clock::now() > end) {
        throw CommError("the other process did not come within 10 s");
      }
    }
  }

  void sum(int rank, std::span<double> data) {
    Rank& own = ranks[static_cast<std::size_t>(rank)];
    if (data.size() > own.values.size()) {
      throw CommError("the two processes have no memory for " + std::to_string(data.size()) +
                      " values");
    }
    Rank& other = ranks[static_cast<std::size_t>(1 - rank)];
    const std::uint64_t turn = own.posted.load() + 1;
    await(other.read, turn - 1);
    std::ranges::copy(data, own.values.begin());
    own.posted.store(turn);
    await(other.posted, turn);
    for (std::size_t i = 0; i < data.size(); ++i) {
      data[i] += other.values[i];
    }
    own.read.store(turn);
  }

  Communicator communicator(int rank) {
    return Communicator::custom(rank, 2, [this, rank](std::span<double> data) { sum(rank, data); });
  }
};

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
  cuda::check(cudaSetDevice(rank % devices), "choosing a device");
  return "";
}

using Body = std::function<void(const Communicator& ranks)>;

/// What one process does. Returns why it failed or was skipped, "" if neither.
std::string run_rank(int rank, Meeting& meeting, const Body& body) {
  try {
    if (std::string why = choose_device(rank); !why.empty()) {
      return why;
    }
    body(meeting.communicator(rank));
    return testing::Test::HasFailure() ? "failed, see above" : "";
  } catch (const std::exception& error) {
    return std::string("threw: ") + error.what();
  }
}

/// Runs `body` in two new processes, which this one has to be free of CUDA for.
void on_two_processes(const Body& body) {
  void* memory =
      mmap(nullptr, sizeof(Meeting), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(memory, MAP_FAILED);
  Meeting& meeting = *new (memory) Meeting;
  std::array<pid_t, 2> processes{};
  std::array<std::FILE*, 2> answers{};
  for (int rank = 0; rank < 2; ++rank) {
    std::array<int, 2> ends{};
    ASSERT_EQ(pipe(ends.data()), 0);
    std::fflush(nullptr);
    const pid_t process = fork();
    ASSERT_GE(process, 0);
    if (process == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      const std::string answer = run_rank(rank, meeting, body);
      std::fflush(nullptr);
      const auto length = static_cast<ssize_t>(answer.size());
      _exit(write(ends[1], answer.data(), answer.size()) == length ? 0 : 1);
    }
    close(ends[1]);
    processes[static_cast<std::size_t>(rank)] = process;
    answers[static_cast<std::size_t>(rank)] = fdopen(ends[0], "r");
  }
  std::string skipped;
  for (std::size_t rank = 0; rank < 2; ++rank) {
    std::string answer;
    for (int c = std::fgetc(answers[rank]); c != EOF; c = std::fgetc(answers[rank])) {
      answer += static_cast<char>(c);
    }
    std::fclose(answers[rank]);
    int status = 0;
    waitpid(processes[rank], &status, 0);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0)
        << "rank " << rank << " ended with status " << status;
    if (answer.starts_with("SKIPPED")) {
      skipped = answer;
    } else {
      EXPECT_EQ(answer, "") << "of rank " << rank;
    }
  }
  munmap(memory, sizeof(Meeting));
  if (!skipped.empty()) {
    GTEST_SKIP() << skipped;
  }
}

TEST(NcclRanks, Sum) {
  on_two_processes([](const Communicator& ranks) {
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
  on_two_processes([=](const Communicator& ranks) {
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
  on_two_processes([](const Communicator& ranks) {
    const DeviceCommunicator group = DeviceCommunicator::nccl(ranks, 30s);
    DeviceValues values({1.0, 2.0});
    const comm::Descriptor what{.layer = ranks.rank() == 0 ? "bn1" : "bn2", .channels = 2};
    EXPECT_THAT(test::failure_of<CommError>([&] {
                  group.sum().all_reduce(what, {values.data(), 2}, values.stream());
                }),
                AllOf(HasSubstr("'bn1'"), HasSubstr("'bn2'")));
  });
}

// Rank 0 waits on the device for a rank that is busy otherwise.
TEST(NcclRanks, ThatDoNotComeAreMissed) {
  on_two_processes([](const Communicator& ranks) {
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
                HasSubstr("within 8 s"));
    EXPECT_LT(Clock::now() - start, 22s);
  });
}

}  // namespace
}  // namespace syncbn
