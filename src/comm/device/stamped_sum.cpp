// SPDX-License-Identifier: Apache-2.0
#include "comm/device/stamped_sum.hpp"

#include <algorithm>
#include <chrono>
#include <cstddef>
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
#include "comm/device/watchdog.hpp"
#include "comm/group/deadlines.hpp"
#include "cuda/device.hpp"
#include "cuda/device_buffer.hpp"
#include "cuda/pinned_buffer.hpp"

namespace syncbn::comm {
namespace {

class StampedSum final : public DeviceSum, private Watched {
 public:
  StampedSum(Communicator bootstrap, std::unique_ptr<PlainDeviceSum> plain, Deadlines deadlines)
      : bootstrap_(std::move(bootstrap)),
        deadlines_(deadlines),
        board_memory_(sizeof(Board)),
        board_(*new (board_memory_.data()) Board),
        tally_(sizeof(cuda::Tally)),
        words_(fingerprint_words * sizeof(double)),
        agreement_(bootstrap_, board_),
        plain_(std::move(plain)) {
    tally_.clear(nullptr);
    syncbn::cuda::StreamView(nullptr).synchronize();
    watch_ =
        std::make_unique<Watch>(Watchdog::of_process(), static_cast<Watched&>(*this), deadlines);
  }
  StampedSum(const StampedSum&) = delete;
  StampedSum& operator=(const StampedSum&) = delete;
  ~StampedSum() override {
    watch_.reset();
    if (agreement_.failed()) {
      plain_->abort();
    }
  }

  int rank() const override { return bootstrap_.rank(); }
  int size() const override { return bootstrap_.size(); }

  void all_reduce(const Descriptor& what, const DeviceMessageView& message,
                  Stream stream) override {
    agreement_.poll();
    const Agreement::Plan plan = agreement_.admit(what, message.length);
    const syncbn::cuda::OnDevice on_device(device());
    double* const words = message.has_room ? message.data + message.length : words_.as<double>();
    const cuda::Stamped stamped{plan.fingerprint,         plan.number, words,
                                tally_.as<cuda::Tally>(), &board_,     message.state};
    try {
      launch(cuda::Stamp{stamped}, stream);
      if (message.has_room) {
        plain_->all_reduce(message.data, message.length + fingerprint_words, stream);
      } else {
        plain_->all_reduce(message.data, message.length, stream);
        plain_->all_reduce(words, fingerprint_words, stream);
      }
      launch(cuda::Verify{stamped, message.data, message.length, size()}, stream);
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
    const syncbn::cuda::OnDevice on_device(device());
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
    const syncbn::cuda::OnDevice on_device(device());
    const double own = color;
    const std::vector<double> colors = bootstrap_.all_gather({&own, 1});
    const auto first = std::ranges::find(colors, own) - colors.begin();  // is at least 0
    Communicator part = bootstrap_.split(color);
    return std::make_unique<StampedSum>(std::move(part), plain_->split(static_cast<int>(first)),
                                        deadlines_);
  }

 private:
  Progress progress() override {
    const std::uint64_t finished = look(board_.finished);  // first, so as not to be ahead
    return {look(board_.started), finished};
  }

  std::string trouble() override { return agreement_.failed() ? "" : plain_->trouble(); }

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
    plain_->abort();
  }

  Communicator bootstrap_;
  Deadlines deadlines_;
  syncbn::cuda::PinnedBuffer board_memory_;
  Board& board_;
  syncbn::cuda::DeviceBuffer tally_;  ///< freed before the board, after waiting for the device
  syncbn::cuda::DeviceBuffer words_;  ///< fingerprint of a message without room for it
  Agreement agreement_;
  cuda::StreamWait wait_;
  std::unique_ptr<PlainDeviceSum> plain_;  ///< destroyed before the memory its sums use
  std::unique_ptr<Watch> watch_;
};

}  // namespace

std::unique_ptr<DeviceSum> stamped_sum(Communicator bootstrap,
                                       std::unique_ptr<PlainDeviceSum> plain, Deadlines deadlines) {
  return std::make_unique<StampedSum>(std::move(bootstrap), std::move(plain), deadlines);
}

}  // namespace syncbn::comm
