// SPDX-License-Identifier: Apache-2.0
//
// Sums device memory over any host communicator: values are copied to pinned memory, summed there
// and copied back. The communicator's group compares the fingerprints. Graphs cannot hold such a
// sum, because the host takes no part when they are replayed.
//
// MPI is not handed the device's memory. An Open MPI that takes it makes the same copies, to memory
// that is not pinned (coll/accelerator's allreduce, coll/cuda's before), and only in the blocking
// call, which has no deadline.

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <span>
#include <string>
#include <utility>

#include "syncbn/error.hpp"

#include "comm/device/cuda/stream_wait.hpp"
#include "comm/device/device_sums.hpp"
#include "comm/group/access.hpp"
#include "comm/group/deadline_clock.hpp"
#include "comm/group/deadlines.hpp"
#include "comm/group/group.hpp"
#include "cuda/device.hpp"
#include "cuda/device_buffer.hpp"
#include "cuda/event.hpp"
#include "cuda/pinned_buffer.hpp"
#include "cuda/stream.hpp"

namespace syncbn::comm {
namespace {

class StagedSum final : public DeviceSum {
 public:
  StagedSum(Communicator host, Deadlines deadlines)
      : host_(std::move(host)), deadlines_(deadlines) {}

  StagedSum(const StagedSum&) = delete;
  StagedSum& operator=(const StagedSum&) = delete;
  ~StagedSum() override {
    try {
      copied_back_.synchronize();
    } catch (const DeviceError& error) {
      report(error.what());
    }
  }

  int rank() const override { return host_.rank(); }
  int size() const override { return host_.size(); }

  void all_reduce(const Descriptor& of_device, const DeviceMessageView& message,
                  Stream stream) override {
    if (size() == 1) {
      return;
    }
    const syncbn::cuda::OnDevice on_device(device());
    cuda::refuse_capture(stream, "a staged sum on");
    const std::span<double> staging = room_for(message.length);
    copied_back_.hold(stream);
    syncbn::cuda::download(message.data, std::as_writable_bytes(staging), stream);
    const std::span state(state_.as<std::uint64_t>(), 1);
    if (message.state != nullptr) {
      syncbn::cuda::download(message.state, std::as_writable_bytes(state), stream);
    }
    wait(stream, [&] { return describe(of_device); });
    Descriptor what = of_device;
    if (message.state != nullptr) {
      what.facts[fact_on_device] = state[0];
    }
    Access::group(host_).exchange(what, staging);
    syncbn::cuda::upload(std::as_bytes(staging), message.data, stream);
    copied_back_.record(stream);
  }

  void poll() override {}  // all_reduce throws what fails

  void synchronize(Stream stream) override {
    const syncbn::cuda::OnDevice on_device(device());
    cuda::refuse_capture(stream, "synchronize with");
    wait(stream, [] { return std::string("synchronize"); });
  }

  std::unique_ptr<DeviceSum> split(int color) override {
    const syncbn::cuda::OnDevice on_device(device());
    return std::make_unique<StagedSum>(host_.split(color), deadlines_);
  }

 private:
  std::span<double> room_for(std::size_t length) {
    if (const std::size_t bytes = length * sizeof(double); bytes > staging_.bytes()) {
      copied_back_.synchronize();
      staging_ = syncbn::cuda::PinnedBuffer(std::max(bytes, 2 * staging_.bytes()));
    }
    return {staging_.as<double>(), length};
  }

  // Waits for this rank's stream. If that takes too long, tells the ranks that wait for this one.
  template <class What>
  void wait(Stream stream, What what) {
    const auto late = [&](std::chrono::milliseconds deadline) {
      return "rank " + std::to_string(rank()) + ", " + what() +
             ": its own stream was not done within " + in_seconds(deadline);
    };
    DeadlineClock clock(deadlines_);
    wait_(stream, [&] {
      clock.look([&](auto waited) { report(late(waited)); },
                 [&](auto waited) {
                   Access::group(host_).abandon(late(waited));
                   throw CommError(late(waited));
                 });
    });
  }

  Communicator host_;
  Deadlines deadlines_;
  syncbn::cuda::PinnedBuffer staging_;
  syncbn::cuda::PinnedBuffer state_{sizeof(std::uint64_t)};
  syncbn::cuda::Event copied_back_;
  cuda::StreamWait wait_;
};

}  // namespace

std::unique_ptr<DeviceSum> staged_sum(Communicator host, Deadlines deadlines) {
  return std::make_unique<StagedSum>(std::move(host), deadlines);
}

}  // namespace syncbn::comm
