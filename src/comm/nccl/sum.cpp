// SPDX-License-Identifier: Apache-2.0
//
// NCCL's all-reduce is put on the stream between two small kernels, Stamp and Verify
// (cuda/stamp.hpp). They write to the board (board.hpp) how far the messages are. The host reads it
// in every call, and the watchdog every 100 ms.

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <memory>
#include <new>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "syncbn/error.hpp"

#include "comm/device/agreement.hpp"
#include "comm/device/board.hpp"
#include "comm/device/cuda/stamp.hpp"
#include "comm/device/cuda/stream_wait.hpp"
#include "comm/device/device_place.hpp"
#include "comm/device/device_sums.hpp"
#include "comm/device/watchdog.hpp"
#include "comm/group/deadlines.hpp"
#include "comm/group/this_host.hpp"
#include "comm/nccl/comm.hpp"
#include "comm/nccl/device_sharing.hpp"
#include "comm/nccl/unique_id.hpp"
#include "cuda/check.hpp"
#include "cuda/device.hpp"
#include "cuda/device_buffer.hpp"
#include "cuda/pinned_buffer.hpp"

namespace syncbn::comm {
namespace {

class NcclSum final : public DeviceSum, private Watched {
 public:
  NcclSum(Communicator bootstrap, std::unique_ptr<nccl::Comm> comm, Deadlines deadlines)
      : bootstrap_(std::move(bootstrap)),
        deadlines_(deadlines),
        device_(syncbn::cuda::current_device()),
        board_memory_(sizeof(Board)),
        board_(*new (board_memory_.data()) Board),
        tally_(sizeof(cuda::Tally)),
        agreement_(bootstrap_, board_),
        comm_(std::move(comm)) {
    tally_.clear(nullptr);
    syncbn::cuda::StreamView(nullptr).synchronize();
    watch_ =
        std::make_unique<Watch>(Watchdog::of_process(), static_cast<Watched&>(*this), deadlines);
  }
  NcclSum(const NcclSum&) = delete;
  NcclSum& operator=(const NcclSum&) = delete;
  ~NcclSum() override {
    watch_.reset();
    if (agreement_.failed()) {
      comm_->abort();
    }
  }

  int rank() const override { return bootstrap_.rank(); }
  int size() const override { return bootstrap_.size(); }

  void all_reduce(const Descriptor& what, double* values, std::size_t length,
                  Stream stream) override {
    agreement_.poll();
    const Agreement::Plan plan = agreement_.admit(what, length);
    const syncbn::cuda::OnDevice on_device(device_);
    const cuda::Stamped message{plan.fingerprint,         plan.number, values + length,
                                tally_.as<cuda::Tally>(), &board_,     what.shared_on_device};
    try {
      launch(cuda::Stamp{message}, stream);
      comm_->all_reduce(values, length + own_words, stream);
      launch(cuda::Verify{message, values, length, size()}, stream);
    } catch (const CommError& error) {
      give_up(error.what());
      agreement_.poll();
    } catch (const DeviceError& error) {
      give_up(error.what());
      throw;
    }
  }

  void poll() override { agreement_.poll(); }

  void synchronize(Stream stream) override {
    const syncbn::cuda::OnDevice on_device(device_);
    cuda::refuse_capture(stream, "synchronize with");
    wait_(stream, [this] {
      if (agreement_.failed()) {  // the host may know before the stream ends
        agreement_.poll();
      }
    });
    agreement_.poll();
  }

  std::unique_ptr<DeviceSum> split(int color) override {
    agreement_.poll();
    const syncbn::cuda::OnDevice on_device(device_);
    const double own = color;
    const std::vector<double> colors = bootstrap_.all_gather({&own, 1});
    const auto first = std::ranges::find(colors, own) - colors.begin();  // at least 0, as NCCL asks
    Communicator part = bootstrap_.split(color);
    return std::make_unique<NcclSum>(std::move(part), comm_->split(static_cast<int>(first)),
                                     deadlines_);
  }

 private:
  Progress progress() override {
    const std::uint64_t finished = look(board_.finished);  // first, so as not to be ahead
    return {look(board_.started), finished};
  }

  std::string trouble() override { return agreement_.failed() ? "" : comm_->trouble(); }

  void report_late(std::chrono::milliseconds waited) noexcept override {
    try {
      report(agreement_.describe_started() + ": begun on the device and not finished within " +
             in_seconds(waited) + ". A rank has not come, or has other work on its device.");
    } catch (...) {  // no memory for a report
    }
  }

  void fail(std::string_view why) noexcept override { give_up(why); }

  // The reason is recorded before the streams' work is ended, so that whoever sees the end finds
  // it.
  void give_up(std::string_view why) noexcept {
    agreement_.fail(why);
    post(board_.cancelled, 1);
    comm_->abort();
  }

  Communicator bootstrap_;
  Deadlines deadlines_;
  int device_;
  syncbn::cuda::PinnedBuffer board_memory_;
  Board& board_;
  syncbn::cuda::DeviceBuffer tally_;  ///< freed before the board, after waiting for the device
  Agreement agreement_;
  cuda::StreamWait wait_;
  std::unique_ptr<nccl::Comm> comm_;  ///< destroyed before the memory its messages use
  std::unique_ptr<Watch> watch_;
};

std::string bus_of_current_device() {
  std::string bus(20, '\0');
  syncbn::cuda::check(cudaDeviceGetPCIBusId(bus.data(), static_cast<int>(bus.size()),
                                            syncbn::cuda::current_device()),
                      "asking for a device's address");
  return bus.c_str();
}

}  // namespace

std::unique_ptr<DeviceSum> nccl_sum(const Communicator& bootstrap, Deadlines deadlines) {
  require_own_device(bootstrap,
                     {this_host(), bus_of_current_device(), nccl::ranks_may_share_a_device()});
  const ncclUniqueId id = nccl::share_unique_id(bootstrap);
  return std::make_unique<NcclSum>(
      bootstrap, std::make_unique<nccl::Comm>(id, bootstrap.rank(), bootstrap.size(), deadlines),
      deadlines);
}

}  // namespace syncbn::comm
