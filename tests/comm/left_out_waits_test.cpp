// SPDX-License-Identifier: Apache-2.0
//
// If the library left out one of the waits that order its work on devices, tests would find it: the
// emulated device leaves one out.

#include <atomic>
#include <chrono>
#include <optional>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "syncbn/batch_norm.hpp"
#include "syncbn/device_communicator.hpp"

#include "comm/device_values.hpp"
#include "comm/held_stream.hpp"
#include "cuda/emulated.hpp"
#include "support/planted_fault.hpp"
#include "support/thread_ranks.hpp"

namespace syncbn {
namespace {

using namespace std::chrono_literals;
using cuda::Call;
using cuda::LeavesOut;
using test::DeviceValues;

constexpr int ranks = 2;

/// Returns how many of `turns` staged sums, on two streams in turn, came out wrong.
int wrong_sums(int turns) {
  std::atomic<int> wrong{0};
  test::on_thread_ranks(
      ranks,
      [&wrong, turns](const Communicator& host) {
        const DeviceCommunicator group = DeviceCommunicator::staged(host);
        DeviceValues one(std::vector<double>(500, 1.0)), two(std::vector<double>(500, 2.0));
        for (int turn = 0; turn < turns; ++turn) {
          for (DeviceValues* each : {&one, &two}) {
            each->write();
            group.all_reduce(each->data(), each->length(), each->stream());
          }
          wrong += one.read() == std::vector<double>(500, ranks) ? 0 : 1;
          wrong += two.read() == std::vector<double>(500, 2.0 * ranks) ? 0 : 1;
        }
      },
      20s);
  return wrong;
}

TEST(LeftOutWaits, AStreamsForTheSumBeforeIsFound) {
  EXPECT_EQ(wrong_sums(50), 0);
  test::expect_race_found([] {
    const LeavesOut fault(Call::event_hold);
    return wrong_sums(500) > 0;
  });
}

TEST(LeftOutWaits, TheHostsForItsValuesIsFound) {
  test::expect_race_found([] {
    const LeavesOut fault(Call::event_look);
    return wrong_sums(50) > 0;
  });
}

enum class LayersWait : bool { there, left_out };

/// Returns what a new layer's forward gives on a stream of its own while the default stream, which
/// brings the layer's first values, has other work.
std::vector<double> first_forward(LayersWait wait) {
  constexpr Shape shape{.n = 2, .c = 1, .s = 2};
  std::atomic<bool> go{false};
  test::hold_until(go, nullptr);
  std::thread later([&go] {
    std::this_thread::sleep_for(50ms);
    go = true;
  });
  const DeviceValues x({1, 1, -1, -1}), y(std::vector<double>(4, 0.0));
  y.read();
  std::optional<LeavesOut> fault;
  if (wait == LayersWait::left_out) {
    fault.emplace(Call::stream_wait);
  }
  BatchNorm layer(shape.c, DeviceCommunicator::self(), {.eps = 1e-30});
  fault.reset();
  ForwardRecord record;
  const auto view = [&](const DeviceValues& of) {
    return TensorView(of.data(), shape, Layout::channels_first, Device::cuda(0));
  };
  layer.forward(view(x), view(y), record, {.stream = x.stream()});
  cuda::StreamView(x.stream()).synchronize();
  const std::vector<double> result = y.read();
  later.join();
  return result;
}

TEST(LeftOutWaits, ALayersForItsFirstValuesIsFound) {
  const std::vector<double> expected{1, 1, -1, -1};
  EXPECT_EQ(first_forward(LayersWait::there), expected);
  test::expect_race_found([&expected] { return first_forward(LayersWait::left_out) != expected; });
}

}  // namespace
}  // namespace syncbn
