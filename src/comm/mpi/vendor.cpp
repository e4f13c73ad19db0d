// SPDX-License-Identifier: Apache-2.0
//
// The sum of the MPI library itself: MPI_Iallreduce, polled, on duplicates of the user's
// communicator.
//
// Non-blocking, because MPI has no other way to give up waiting. One duplicate for each message
// length, because MPI does not check that lengths agree: with Open MPI 4.1 ranks of different
// lengths get MPI_SUCCESS with wrong numbers, or a broken heap. Kept apart, such ranks wait for
// each other and end at the deadline, each saying what it was doing. Messages are staged in memory
// of ours, which outlives an abandoned request.

#include <algorithm>
#include <climits>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <mpi.h>

#include "syncbn/error.hpp"

#include "comm/fingerprint.hpp"
#include "comm/mpi/handles.hpp"
#include "comm/mpi/transports.hpp"
#include "comm/plain_sum.hpp"

namespace syncbn::comm::mpi {
namespace {

class VendorSum final : public PlainSum {
 public:
  VendorSum(OwnedComm comm, std::chrono::milliseconds timeout)
      : base_(std::move(comm)), timeout_(timeout), rank_(base_.rank()), size_(base_.size()) {
    comm_for(fingerprint_words);  // of the messages that come before a new length
  }

  VendorSum(const VendorSum&) = delete;
  VendorSum& operator=(const VendorSum&) = delete;
  ~VendorSum() override {
    if (in_flight_.any()) {  // a pass ended early
      give_up();
    }
  }

  int rank() const override { return rank_; }
  int size() const override { return size_; }

  std::size_t start(const Message&, std::span<const double> message) override {
    if (message.size() > INT_MAX) {
      throw InvalidArgument(std::to_string(message.size()) +
                            " values in one message (MPI counts to 2^31 - 1). Send it in pieces.");
    }
    const OwnedComm& comm = comm_for(message.size());
    const std::size_t place = in_flight_.take();
    Sent& sent = in_flight_[place];
    sent.staging.assign(message.begin(), message.end());
    check(MPI_Iallreduce(MPI_IN_PLACE, sent.staging.data(), static_cast<int>(message.size()),
                         MPI_DOUBLE, MPI_SUM, comm.get(), &sent.request),
          "MPI_Iallreduce");
    return place;
  }

  void finish(std::size_t started, std::span<double> sum) override {
    Sent& sent = in_flight_[started];
    if (!finished(sent.request, timeout_)) {
      give_up();
      throw_too_late(timeout_);
    }
    std::ranges::copy(sent.staging, sum.begin());
    in_flight_.release(started);
  }

  void give_up(std::string_view) noexcept override {}  // they will see at the deadline

  std::unique_ptr<PlainSum> split(std::span<const int> colors) override {
    return std::make_unique<VendorSum>(part_of_color(base_, colors), timeout_);
  }

 private:
  // Made at a length's first message, for which Group has just compared what the ranks will send.
  // MPI has communicators for some thousand lengths; the longest unused one makes room, the same on
  // every rank.
  OwnedComm& comm_for(std::size_t length) {
    auto known = by_length_.find(length);
    if (known == by_length_.end()) {
      if (by_length_.size() == max_lengths) {
        by_length_.erase(std::ranges::min_element(
            by_length_, {}, [](const auto& entry) { return entry.second.last_use; }));
      }
      known = by_length_.emplace(length, Channel{duplicate(base_.get(), timeout_), 0}).first;
    }
    known->second.last_use = ++uses_;
    return known->second.comm;
  }

  // Leaves to MPI what it may still be working with: no rank has anything to do with these
  // communicators and messages any more.
  void give_up() {
    for (auto& [length, channel] : by_length_) {
      channel.comm.abandon();
    }
    new InFlight<Sent>(std::exchange(in_flight_, {}));
  }

  struct Sent {
    std::vector<double> staging;
    MPI_Request request = MPI_REQUEST_NULL;
  };

  static constexpr std::size_t max_lengths = 256;
  struct Channel {
    OwnedComm comm;
    std::int64_t last_use;
  };

  OwnedComm base_;
  std::map<std::size_t, Channel> by_length_;
  std::int64_t uses_ = 0;
  InFlight<Sent> in_flight_;
  std::chrono::milliseconds timeout_;
  int rank_;
  int size_;
};

}  // namespace

std::unique_ptr<Transport> vendor_transport(OwnedComm comm, Deadlines deadlines) {
  return with_fingerprints(std::make_unique<VendorSum>(std::move(comm), deadlines.fail));
}

}  // namespace syncbn::comm::mpi
