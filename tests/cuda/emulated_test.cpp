// SPDX-License-Identifier: Apache-2.0

// What the devices that the host emulates have in common with CUDA devices.

#include "cuda/emulated.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cfenv>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <future>
#include <span>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "syncbn/error.hpp"

#include "cuda/capture.hpp"
#include "cuda/device.hpp"
#include "cuda/device_buffer.hpp"
#include "cuda/emulated_stream.hpp"
#include "cuda/event.hpp"
#include "cuda/graph.hpp"
#include "cuda/pinned_buffer.hpp"
#include "support/planted_fault.hpp"

namespace syncbn::cuda {
namespace {

using namespace std::chrono_literals;

/// Keeps a stream from going on until it is opened.
class Gate {
 public:
  explicit Gate(StreamView stream) {
    put_on(stream, [opened = opened_.get_future().share()] { opened.wait(); });
  }
  void open() { opened_.set_value(); }

 private:
  std::promise<void> opened_;
};

std::array<double, 2> read(const DeviceBuffer& buffer, StreamView stream) {
  std::array<double, 2> values{};
  buffer.download(std::as_writable_bytes(std::span(values)), stream);
  stream.synchronize();
  return values;
}

void write(DeviceBuffer& buffer, const std::array<double, 2>& values, StreamView stream) {
  buffer.upload(std::as_bytes(std::span(values)), stream);
}

TEST(Emulated, HasEightDevices) {
  EXPECT_NO_THROW(require_cuda());
  EXPECT_EQ(device_count(), 8);
  EXPECT_EQ(current_device(), 0);
  EXPECT_THAT(properties_of(0).name, testing::StartsWith("emulated"));
  EXPECT_NE(bus_address(0), bus_address(1));
  EXPECT_THROW(choose_device(8), DeviceError);
  EXPECT_THROW(OnDevice(-1), DeviceError);
  {
    const OnDevice third(2);
    EXPECT_EQ(current_device(), 2);
    std::thread([] { EXPECT_EQ(current_device(), 0) << "of another thread"; }).join();
  }
  EXPECT_EQ(current_device(), 0);
}

TEST(Emulated, AStreamTakesKernelsOfItsOwnDeviceOnly) {
  const Stream stream = make_stream();
  const OnDevice other(1);
  EXPECT_THROW(put_on(stream.get(), [] {}), DeviceError);
  EXPECT_THROW(Event().record(stream.get()), DeviceError);
  DeviceBuffer buffer(2 * sizeof(double));
  EXPECT_NO_THROW(buffer.clear(stream.get())) << "copies may be on any";
}

TEST(Emulated, MemoryIsOneDevicesOrPinned) {
  const DeviceBuffer of_first(64);
  const OnDevice other(1);
  const DeviceBuffer of_second(64);
  const PinnedBuffer pinned(64);
  const double on_the_host = 0;
  EXPECT_TRUE(is_memory_of(0, of_first.data()));
  EXPECT_FALSE(is_memory_of(1, of_first.data()));
  EXPECT_TRUE(is_memory_of(1, of_second.as<std::byte>() + 63));
  EXPECT_FALSE(is_memory_of(1, of_second.as<std::byte>() + 64));
  EXPECT_TRUE(is_memory_of(0, pinned.data()));
  EXPECT_FALSE(is_memory_of(0, &on_the_host));
}

TEST(Emulated, MemoryIsAlignedAndHoldsNoZeros) {
  const DeviceBuffer buffer(2 * sizeof(double));
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(buffer.data()) % 256, 0U);
  EXPECT_TRUE(std::isnan(read(buffer, nullptr)[1]));
  EXPECT_TRUE(std::isnan(PinnedBuffer(sizeof(double)).as<double>()[0]));
}

TEST(Emulated, CopiesAndClears) {
  const Stream stream = make_stream();
  for (const StreamView on : {StreamView(nullptr), StreamView(stream.get())}) {
    DeviceBuffer one(2 * sizeof(double)), two(2 * sizeof(double));
    write(one, {1, 2}, on);
    two.clear(on);
    EXPECT_THAT(read(two, on), testing::ElementsAre(0, 0));
    two.copy(one, sizeof(double), on, sizeof(double));
    EXPECT_THAT(read(two, on), testing::ElementsAre(0, 1));
    two.copy(one, sizeof(double), on, 0, sizeof(double));
    EXPECT_THAT(read(two, on), testing::ElementsAre(2, 1));
  }
}

TEST(Emulated, TheHostRunsAheadOfAStream) {
  const Stream stream = make_stream();
  DeviceBuffer buffer(2 * sizeof(double));
  write(buffer, {1, 2}, stream.get());
  Gate gate(stream.get());
  std::array<double, 2> values{};
  buffer.download(std::as_writable_bytes(std::span(values)), stream.get());
  buffer.clear(stream.get());
  Event end;
  end.record(stream.get());
  EXPECT_FALSE(end.is_done());
  EXPECT_THAT(values, testing::ElementsAre(0, 0)) << "not copied yet";
  gate.open();
  end.synchronize();
  EXPECT_TRUE(end.is_done());
  EXPECT_THAT(values, testing::ElementsAre(1, 2)) << "copied before the memory was cleared";
}

TEST(Emulated, AStreamReadsPinnedMemoryWhenItGetsThereAndOtherMemoryAtOnce) {
  const Stream stream = make_stream();
  const PinnedBuffer pinned(2 * sizeof(double));
  auto* const values = pinned.as<double>();
  std::fill_n(values, 2, 1.0);
  std::array<double, 2> ordinary{1, 1};
  DeviceBuffer from_pinned(sizeof ordinary), from_ordinary(sizeof ordinary);
  Gate gate(stream.get());
  from_pinned.upload(std::as_bytes(std::span(values, 2)), stream.get());
  write(from_ordinary, ordinary, stream.get());
  std::fill_n(values, 2, 2.0);
  ordinary = {2, 2};
  gate.open();
  EXPECT_THAT(read(from_pinned, stream.get()), testing::ElementsAre(2, 2));
  EXPECT_THAT(read(from_ordinary, stream.get()), testing::ElementsAre(1, 1));
}

TEST(Emulated, StreamsWorkAtTheSameTime) {
  for (const bool default_streams : {false, true}) {
    const OnDevice other(1);
    const Stream first = make_stream();
    const Stream second = make_stream();
    const StreamView one = default_streams ? StreamView(nullptr) : StreamView(first.get());
    std::promise<void> began_one, began_two;
    std::future<void> one_began = began_one.get_future(), two_began = began_two.get_future();
    std::atomic<int> met{0};
    put_on(one, [&] {
      began_one.set_value();
      met += two_began.wait_for(10s) == std::future_status::ready ? 1 : 0;
    });
    put_on(second.get(), [&] {
      began_two.set_value();
      met += one_began.wait_for(10s) == std::future_status::ready ? 1 : 0;
    });
    one.synchronize();
    StreamView(second.get()).synchronize();
    EXPECT_EQ(met, 2);
  }
}

enum class Order : std::uint8_t { by_event, by_nothing, by_stream_wait };

/// Returns how often, of `turns` times, a value that one stream writes was not there when another
/// one, or the host, read it.
int missed(Order order, int turns) {
  const Stream first = make_stream();
  const Stream second = make_stream();
  int missed = 0;
  for (int turn = 0; turn < turns; ++turn) {
    int value = 0;
    int seen = 0;
    Event written;
    put_on(first.get(), [&value] { value = 1; });
    written.record(first.get());
    if (order == Order::by_stream_wait) {
      StreamView(first.get()).synchronize();
    }
    if (order == Order::by_event) {
      written.hold(second.get());
    }
    put_on(second.get(), [&] { seen = value; });
    second->synchronize();  // not by StreamView, which may be left out
    first->synchronize();
    missed += seen == 1 ? 0 : 1;
  }
  return missed;
}

TEST(Emulated, OnlyEventsAndWaitsOrderStreams) {
  EXPECT_EQ(missed(Order::by_event, 300), 0);
  EXPECT_EQ(missed(Order::by_stream_wait, 300), 0);
  test::expect_race_found([] { return missed(Order::by_nothing, 300) > 0; });
}

TEST(Emulated, AWaitThatIsLeftOutIsFound) {
  test::expect_race_found([] {
    const LeavesOut fault(Call::event_hold);
    return missed(Order::by_event, 300) > 0;
  });
  test::expect_race_found([] {
    const LeavesOut fault(Call::stream_wait);
    return missed(Order::by_stream_wait, 300) > 0;
  });
}

TEST(Emulated, ACaptureIsDoneWhenItIsReplayed) {
  const Stream stream = make_stream();
  const DeviceBuffer earlier(8);
  int done = 0;
  const Graph graph(stream.get(), [&] {
    EXPECT_TRUE(is_capturing(stream.get()));
    put_on(stream.get(), [&done] { ++done; });
    put_on(stream.get(), [&done] { done *= 10; });
    EXPECT_THROW(StreamView(stream.get()).synchronize(), DeviceError);
    EXPECT_THROW(DeviceBuffer(8), DeviceError);
    EXPECT_THROW(PinnedBuffer(8), DeviceError);
    Event captured;
    captured.record(stream.get());
    EXPECT_THROW(captured.is_done(), DeviceError);
    EXPECT_THROW(captured.synchronize(), DeviceError);
    EXPECT_THROW(captured.hold(nullptr), DeviceError);
  });
  EXPECT_FALSE(is_capturing(stream.get()));
  StreamView(stream.get()).synchronize();
  EXPECT_EQ(done, 0);
  graph.replay(stream.get());
  graph.replay(stream.get());
  StreamView(stream.get()).synchronize();
  EXPECT_EQ(done, 110);
  EXPECT_NO_THROW(DeviceBuffer(8));
}

TEST(Emulated, AStreamWaitsForAnEventOfAnother) {
  const Stream first = make_stream();
  const Stream second = make_stream();
  DeviceBuffer buffer(2 * sizeof(double));
  write(buffer, {1, 2}, first.get());
  Gate gate(first.get());
  buffer.clear(first.get());
  Event cleared;
  cleared.record(first.get());
  cleared.hold(second.get());
  std::thread later([&gate] {
    std::this_thread::sleep_for(10ms);
    gate.open();
  });
  EXPECT_THAT(read(buffer, second.get()), testing::ElementsAre(0, 0));
  later.join();
}

TEST(Emulated, AnEventThatWasNotRecordedIsDone) {
  const Event event;
  EXPECT_TRUE(event.is_done());
  event.synchronize();
  const Stream stream = make_stream();
  event.hold(stream.get());
  StreamView(stream.get()).synchronize();
}

TEST(Emulated, EventsTakeTheTimeBetweenThem) {
  const Stream stream = make_stream();
  Event begin(Event::Timing::yes), end(Event::Timing::yes);
  begin.record(stream.get());
  put_on(stream.get(), [] { std::this_thread::sleep_for(5ms); });
  end.record(stream.get());
  end.synchronize();
  EXPECT_GE(end.milliseconds_since(begin), 5);
}

TEST(Emulated, MemoryStaysUntilStreamsHaveUsedIt) {
  const Stream stream = make_stream();
  DeviceBuffer kept(2 * sizeof(double));
  Gate gate(stream.get());
  {
    DeviceBuffer gone(2 * sizeof(double));
    write(gone, {3, 4}, stream.get());
    kept.copy(gone, gone.bytes(), stream.get());
  }
  std::vector<DeviceBuffer> others;  // would be where the first was
  for (int i = 0; i < 100; ++i) {
    others.emplace_back(2 * sizeof(double));
  }
  gate.open();
  EXPECT_THAT(read(kept, stream.get()), testing::ElementsAre(3, 4));
}

TEST(Emulated, AStreamThatIsDestroyedDoesWhatWasPutOnIt) {
  int done = 0;
  {
    const Stream stream = make_stream();
    for (int i = 0; i < 100; ++i) {
      put_on(stream.get(), [&done] { ++done; });
    }
  }
  EXPECT_EQ(done, 100);
}

TEST(Emulated, RoundsToNearestWhateverTheHostDoes) {
  std::fesetround(FE_UPWARD);
  const Stream stream = make_stream();
  std::vector<double> sums;
  for (const StreamView on : {StreamView(nullptr), StreamView(stream.get())}) {
    put_on(on, [&sums] {
      const volatile double one = 1;
      sums.push_back(one + 0x1p-60);
    });
    on.synchronize();
  }
  std::fesetround(FE_TONEAREST);
  EXPECT_THAT(sums, testing::ElementsAre(1, 1));
}

}  // namespace
}  // namespace syncbn::cuda
