// SPDX-License-Identifier: Apache-2.0

// What the device that the host emulates has in common with a CUDA device.

#include "cuda/emulated.hpp"

#include <array>
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

#include "cuda/device.hpp"
#include "cuda/device_buffer.hpp"
#include "cuda/event.hpp"
#include "cuda/pinned_buffer.hpp"

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

TEST(Emulated, IsTheOnlyDevice) {
  EXPECT_NO_THROW(require_cuda());
  EXPECT_EQ(device_count(), 1);
  EXPECT_EQ(current_device(), 0);
  EXPECT_THAT(properties_of(0).name, testing::StartsWith("emulated"));
  EXPECT_NO_THROW(choose_device(0));
  EXPECT_THROW(choose_device(1), DeviceError);
  EXPECT_THROW(OnDevice(1), DeviceError);
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

TEST(Emulated, AStreamWaitsForAnEventOfAnother) {
  const Stream first = make_stream();
  const Stream second = make_stream();
  DeviceBuffer buffer(2 * sizeof(double));
  write(buffer, {1, 2}, nullptr);
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
    write(gone, {3, 4}, nullptr);
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
